//! New inputs from old ones: flips, boundary numbers, cuts, repeats, and pieces of one inside another.

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// Inputs grow no longer than this.
const MAX_LENGTH: usize = 64 * 1024;
/// Values at which arithmetic and lengths go wrong.
const EDGES: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xff, b'/', b':', b'"'];

/// Makes inputs. The same seed makes the same ones.
#[derive(Debug)]
pub struct Mutator(StdRng);

impl Mutator {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// One of the inputs, changed in one to eight places.
    pub fn next(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.pick(inputs).to_vec();
        for _ in 0..self.0.random_range(1..=8) {
            self.change(&mut input, inputs);
        }
        input.truncate(MAX_LENGTH);
        input
    }

    fn pick<'a>(&mut self, inputs: &'a [Vec<u8>]) -> &'a [u8] {
        if inputs.is_empty() { &[] } else { &inputs[self.0.random_range(0..inputs.len())] }
    }

    fn change(&mut self, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let at = self.0.random_range(0..=input.len());
        match self.0.random_range(0..7) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.0.random_range(0..8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = EDGES[self.0.random_range(0..EDGES.len())];
                }
            }
            2 => input.truncate(at),
            3 => {
                let end = self.0.random_range(at..=input.len().min(at + 64));
                input.drain(at..end);
            }
            4 => {
                let mut noise = vec![0; self.0.random_range(1..=16)];
                self.0.fill_bytes(&mut noise);
                input.splice(at..at, noise);
            }
            5 => {
                let end = self.0.random_range(at..=input.len().min(at + 32));
                let piece = input[at..end].repeat(self.0.random_range(1..=64));
                input.splice(at..at, piece);
            }
            _ => {
                let other = self.pick(inputs).to_vec();
                let from = self.0.random_range(0..=other.len());
                input.splice(at.., other[from..].iter().copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let inputs = vec![b"GET / HTTP/1.1".to_vec(), vec![1, 2, 3]];
        let (mut one, mut other) = (Mutator::new(7), Mutator::new(7));
        for _ in 0..1_000 {
            assert_eq!(one.next(&inputs), other.next(&inputs));
        }
        assert!(one.next(&[]).len() <= MAX_LENGTH);
    }
}
