//! The conversation with the kernel: transactions that happen whole or not at all, and lists.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::encode::{self, About, Step};
use super::set::{Element, Set};
use super::show;
use super::wire::{self, Answer, Attrs, Message, Reader};
use super::{Chain, Family, Table, decode};
use crate::error::{Doing, Error, Result};
use crate::netns::NetNs;

/// Rules and sets changed while being listed: how often to start over.
const RETRIES: usize = 8;

/// The flag on answers that say the list changed meanwhile.
const DUMP_INTERRUPTED: u16 = 0x10;

pub(super) fn apply(ns: &NetNs, tables: &[Table]) -> Result<()> {
    let steps = tables.iter().flat_map(|table| with_table(table.family, &table.name, encode::table(table)));
    commit(ns, steps.collect())
}

/// Deletes a table; one that is not there is no error.
pub fn delete(ns: &NetNs, family: Family, name: &str) -> Result<()> {
    match commit(ns, with_table(family, name, vec![encode::delete_table(name)]).collect()) {
        Err(error) if error.not_found() => Ok(()),
        other => other,
    }
}

/// Adds elements to a set or map. One that is there already with another value is an error.
pub fn add_elements(ns: &NetNs, family: Family, table: &str, set: &str, elements: &[Element]) -> Result<()> {
    let steps = encode::set_elements(Message::NewSetElem, table, set, None, elements);
    commit(ns, with_table(family, table, steps).collect())
}

/// Deletes elements from a set or map, by their keys. One that is not there is an error, and nothing is deleted then.
pub fn delete_elements(ns: &NetNs, family: Family, table: &str, set: &str, elements: &[Element]) -> Result<()> {
    let steps = encode::set_elements(Message::DelSetElem, table, set, None, elements);
    commit(ns, with_table(family, table, steps).collect())
}

/// Makes the contents of a set or map exactly these, at once.
pub fn replace_elements(ns: &NetNs, family: Family, table: &str, set: &str, elements: &[Element]) -> Result<()> {
    let mut steps = vec![encode::flush_set(table, set)];
    steps.extend(encode::set_elements(Message::NewSetElem, table, set, None, elements));
    commit(ns, with_table(family, table, steps).collect())
}

/// What a set or map holds.
pub fn elements(ns: &NetNs, family: Family, table: &str, set: &str) -> Result<Vec<Element>> {
    let socket = open(ns)?;
    let found = sets(&socket, family, table)?.into_iter().find(|(found, _)| found.name == set);
    match found {
        Some((set, _)) => Ok(set.elements),
        None => {
            Err(Error::new(format!("list the set {set} of table {table}"), io::Error::from_raw_os_error(libc::ENOENT)))
        }
    }
}

/// The names of all tables in `ns`.
pub fn tables(ns: &NetNs) -> Result<Vec<(Family, String)>> {
    let read = |number: u8, attrs: Reader<'_>| Some((Family::from_number(number)?, attrs.str(1)?));
    dump(&open(ns)?, Message::GetTable, 0, &Attrs::default(), "list the tables", read)
}

/// The kernel's table of this name, or none.
pub fn read(ns: &NetNs, family: Family, name: &str) -> Result<Option<Table>> {
    if !tables(ns)?.contains(&(family, name.to_owned())) {
        return Ok(None);
    }
    let socket = open(ns)?;
    let mut table = Table::new(family, name);
    let (own, named): (Vec<_>, Vec<_>) = sets(&socket, family, name)?.into_iter().partition(|(_, own)| *own);
    let own: Vec<Set> = own.into_iter().map(|(set, _)| set).collect();
    table.sets = named.into_iter().map(|(set, _)| set).collect();
    table.chains = chains(&socket, family, name)?;
    let mut about = Attrs::default();
    about.str(1, name);
    let of_table = |attrs: Reader<'_>| (attrs.str(1)? == name).then(|| decode::rule(attrs, &own))?;
    let doing = format!("list the rules of table {name}");
    let rules = dump(&socket, Message::GetRule, family.number(), &about, &doing, |_, attrs| of_table(attrs))?;
    for (chain, rule) in rules {
        if let Some(chain) = table.chains.iter_mut().find(|it| it.name == chain) {
            chain.rules.push(rule);
        }
    }
    Ok(Some(table))
}

fn chains(socket: &Socket, family: Family, table: &str) -> Result<Vec<Chain>> {
    let doing = format!("list the chains of table {table}");
    let of_table = |attrs: Reader<'_>| (attrs.str(1)? == table).then(|| decode::chain(attrs))?;
    dump(socket, Message::GetChain, family.number(), &Attrs::default(), &doing, |_, attrs| of_table(attrs))
}

/// The sets of a table with their elements; the flag says which belong to rules.
fn sets(socket: &Socket, family: Family, table: &str) -> Result<Vec<(Set, bool)>> {
    let mut about = Attrs::default();
    about.str(1, table);
    let doing = format!("list the sets of table {table}");
    let of_table = |attrs: Reader<'_>| (attrs.str(1)? == table).then(|| decode::set(attrs))?;
    let mut found = dump(socket, Message::GetSet, family.number(), &about, &doing, |_, attrs| of_table(attrs))?;
    for (set, _) in &mut found {
        let mut about = Attrs::default();
        about.str(1, table).str(2, &set.name);
        let doing = format!("list the set {} of table {table}", set.name);
        let read = |_, attrs: Reader<'_>| Some(decode::elements(set, attrs));
        let elements = dump(socket, Message::GetSetElem, family.number(), &about, &doing, read)?;
        set.elements = elements.into_iter().flatten().collect();
        set.elements.sort();
    }
    Ok(found)
}

/// A step, and the table it is about.
struct Placed<'a> {
    family: Family,
    table: &'a str,
    step: Step<'a>,
}

fn with_table<'a>(family: Family, table: &'a str, steps: Vec<Step<'a>>) -> impl Iterator<Item = Placed<'a>> {
    steps.into_iter().map(move |step| Placed { family, table, step })
}

impl fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table;
        match self.step.about {
            About::Table => write!(f, "change the nftables table {table}"),
            About::Chain(chain) => write!(f, "add the chain {chain} to the nftables table {table}"),
            About::Set("") => write!(f, "fill a rule's own set in the nftables table {table}"),
            About::Set(set) => write!(f, "change the set {set} of the nftables table {table}"),
            About::Rule(chain, rule) => {
                write!(f, "add a rule to chain {chain} of the nftables table {table}: {}", show::rule(rule))
            }
        }
    }
}

fn open(ns: &NetNs) -> Result<Socket> {
    let socket = ns.run(|| {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Refusals then bring the kernel's own words, and not a copy of what was sent.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        Ok::<_, io::Error>(socket)
    })?;
    socket.doing(|| format!("open a netfilter socket in {}", ns.id()))
}

/// Sends everything as one transaction. The kernel works it off within the send, so whatever it has to say is there
/// right after: nothing at all means done.
fn commit(ns: &NetNs, steps: Vec<Placed<'_>>) -> Result<()> {
    let doing = || match steps.first() {
        Some(step) => step.to_string(),
        None => "change nothing".to_owned(),
    };
    let socket = open(ns)?;
    let mut batch = Vec::new();
    wire::begin(0, &mut batch);
    for (placed, sequence) in steps.iter().zip(1..) {
        let step = &placed.step;
        wire::message(step.message, placed.family.number(), step.flags, sequence, &step.attrs, &mut batch);
    }
    wire::end(0, &mut batch);
    make_room(&socket, batch.len()).doing(doing)?;
    socket.send(&batch, 0).doing(doing)?;
    while let Some(bytes) = receive_now(&socket).doing(doing)? {
        for answer in wire::answers(&bytes) {
            if let Some(refusal) = refusal(answer) {
                let step = (answer.sequence as usize).checked_sub(1).and_then(|at| steps.get(at));
                return Err(Error::new(step.map_or_else(doing, ToString::to_string), refusal));
            }
        }
    }
    Ok(())
}

fn make_room(socket: &Socket, len: usize) -> io::Result<()> {
    let fd = std::os::fd::AsFd::as_fd(socket);
    // Room for bookkeeping as well; the kernel doubles it anyway.
    nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::SndBufForce, &(len + 64 * 1024))?;
    Ok(())
}

fn receive_now(socket: &Socket) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 64 * 1024];
    match nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, nix::sys::socket::MsgFlags::MSG_DONTWAIT) {
        Ok(len) => {
            buffer.truncate(len);
            Ok(Some(buffer))
        }
        Err(nix::errno::Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The kernel's refusal in an answer, with its own words where it has some.
fn refusal(answer: Answer<'_>) -> Option<io::Error> {
    if answer.kind != libc::NLMSG_ERROR as u16 {
        return None;
    }
    let (code, rest) = answer.body.split_first_chunk::<4>()?;
    let error = match i32::from_ne_bytes(*code) {
        0 => return None,
        code => io::Error::from_raw_os_error(-code),
    };
    // After a copy of the request's header come the words.
    if let Some(words) = rest.get(16..).and_then(|attrs| Reader(attrs).str(1)) {
        tracing::debug!("nf_tables: {error}: {words}");
    }
    Some(error)
}

fn dump<T>(
    socket: &Socket,
    message: Message,
    family: u8,
    about: &Attrs,
    doing: &str,
    read: impl Fn(u8, Reader<'_>) -> Option<T>,
) -> Result<Vec<T>> {
    for sequence in 1..=RETRIES as u32 {
        let mut request = Vec::new();
        wire::message(message, family, libc::NLM_F_DUMP as u16, sequence, about, &mut request);
        socket.send(&request, 0).doing(|| doing)?;
        if let Some(found) = collect(socket, sequence, doing, &read)? {
            return Ok(found);
        }
    }
    Err(Error::new(doing, io::Error::from_raw_os_error(libc::EINTR)))
}

/// Reads one list to its end; none if it changed meanwhile.
fn collect<T>(
    socket: &Socket,
    sequence: u32,
    doing: &str,
    read: impl Fn(u8, Reader<'_>) -> Option<T>,
) -> Result<Option<Vec<T>>> {
    let mut found = Vec::new();
    let mut changed = false;
    loop {
        let (bytes, _) = socket.recv_from_full().doing(|| doing)?;
        for answer in wire::answers(&bytes).filter(|answer| answer.sequence == sequence) {
            changed |= answer.flags & DUMP_INTERRUPTED != 0;
            if let Some(refusal) = refusal(answer) {
                return Err(Error::new(doing, refusal));
            }
            if [libc::NLMSG_DONE as u16, libc::NLMSG_ERROR as u16].contains(&answer.kind) {
                return Ok((!changed).then_some(found));
            }
            found.extend(answer.nf_tables().and_then(|(family, attrs)| read(family, attrs)));
        }
    }
}
