//! Which system calls a process may make: filters that the kernel asks before each of them (seccomp).
//!
//! Filters stack, and the strictest answer counts. A filter is compiled first and put in force later, so that it can also be
//! put in force between fork and exec.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::error::{Error, Result};

/// The number of `socket`, for callers that filter it.
pub const SOCKET: i64 = libc::SYS_socket;

/// One system call, as a filter matches it: its number, and for each condition the argument's index and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    number: i64,
    arguments: Vec<(u8, Match)>,
}

/// What an argument is compared with; its lower 32 bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Equals(u32),
    /// Of the bits in the first, exactly those in the second are set.
    Bits(u32, u32),
}

impl Call {
    /// The call with whatever arguments.
    pub const fn any(number: i64) -> Self {
        Self { number, arguments: Vec::new() }
    }

    /// The same where argument `index` (from 0) is `value`.
    #[must_use]
    pub fn with(mut self, index: u8, value: u32) -> Self {
        self.arguments.push((index, Match::Equals(value)));
        self
    }

    /// The same where of the bits `mask` of argument `index` exactly `set` are set.
    #[must_use]
    pub fn with_bits(mut self, index: u8, mask: u32, set: u32) -> Self {
        self.arguments.push((index, Match::Bits(mask, set)));
        self
    }
}

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Filter(BpfProgram);

impl Filter {
    /// These calls and no others; the rest is answered with EPERM.
    pub fn allowing(calls: &[Call]) -> Result<Self> {
        Self::compile(calls, SeccompAction::Errno(libc::EPERM.cast_unsigned()), SeccompAction::Allow)
    }

    /// These calls are answered with `errno`, whatever they ask for; the rest is allowed.
    pub fn refusing(calls: &[Call], errno: i32) -> Result<Self> {
        Self::compile(calls, SeccompAction::Allow, SeccompAction::Errno(errno.cast_unsigned()))
    }

    /// Whoever makes one of these calls is killed, with all its threads; the rest is allowed.
    pub fn deadly(calls: &[Call]) -> Result<Self> {
        Self::compile(calls, SeccompAction::Allow, SeccompAction::KillProcess)
    }

    /// Puts it in force for this thread and those it starts, for good. No rights are gained by executing programs any more.
    pub fn apply(&self) -> io::Result<()> {
        seccompiler::apply_filter(&self.0).map_err(io::Error::other)
    }

    fn compile(calls: &[Call], otherwise: SeccompAction, matched: SeccompAction) -> Result<Self> {
        let refused = |error: seccompiler::BackendError| {
            Error::new("compile a filter of system calls", io::Error::new(io::ErrorKind::InvalidInput, error))
        };
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for call in calls {
            let conditions = call.arguments.iter().map(|(index, expected)| {
                let (operator, value) = match *expected {
                    Match::Equals(value) => (SeccompCmpOp::Eq, value),
                    Match::Bits(mask, set) => (SeccompCmpOp::MaskedEq(mask.into()), set),
                };
                SeccompCondition::new(*index, SeccompCmpArgLen::Dword, operator, value.into())
            });
            let conditions = conditions.collect::<std::result::Result<Vec<_>, _>>().map_err(refused)?;
            let chain = rules.entry(call.number).or_default();
            // A call without conditions has an empty chain, which matches always.
            if !conditions.is_empty() {
                chain.push(SeccompRule::new(conditions).map_err(refused)?);
            }
        }
        let arch = std::env::consts::ARCH.try_into().map_err(refused)?;
        let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(refused)?;
        Ok(Self(filter.try_into().map_err(refused)?))
    }
}
