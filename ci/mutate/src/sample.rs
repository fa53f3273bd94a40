//! Which of the places are taken: the operators in turns, each one's places in an order that the seed gives.

use crate::place::{OPERATORS, Place};

/// Returns up to `each` of the `places`, with names. A place that lies in one that was taken, or around it, is left out.
pub fn drawn(module: &str, places: Vec<Place>, each: usize, seed: u64) -> Vec<Place> {
    let mut random = Random::new(seed, module);
    let mut kinds: Vec<Vec<Place>> = OPERATORS
        .iter()
        .map(|operator| {
            let mut kind: Vec<Place> =
                places.iter().filter(|place| place.operator == *operator).cloned().collect();
            random.shuffle(&mut kind);
            kind
        })
        .collect();
    // Where there are fewer places than operators, it is not always the same operators that have none.
    random.shuffle(&mut kinds);
    let mut taken: Vec<Place> = Vec::new();
    while taken.len() < each && kinds.iter().any(|kind| !kind.is_empty()) {
        for kind in &mut kinds {
            while let Some(mut place) = kind.pop() {
                if taken.iter().any(|other| same_place(other, &place)) {
                    continue;
                }
                place.name = format!("{module}/{:02}", taken.len() + 1);
                taken.push(place);
                break;
            }
            if taken.len() == each {
                break;
            }
        }
    }
    taken
}

fn same_place(one: &Place, other: &Place) -> bool {
    one.file == other.file && one.bytes.start < other.bytes.end && other.bytes.start < one.bytes.end
}

/// SplitMix64, begun by the seed and the module's name, so that a module's sample does not depend on the others.
struct Random(u64);

impl Random {
    fn new(seed: u64, module: &str) -> Self {
        Self(module.bytes().fold(seed, |state, byte| state.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.next() % (last as u64 + 1);
            items.swap(last, usize::try_from(chosen).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::places;

    const SOURCE: &str = "int f (int a) { if (a < 3) return -1; g (a); return a + 1; }";

    #[test]
    fn a_seed_always_draws_the_same() {
        let draw = |seed| drawn("m", places("m.c", SOURCE).unwrap(), 4, seed);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn no_place_is_changed_twice() {
        let all = drawn("m", places("m.c", SOURCE).unwrap(), 100, 1);
        for (at, place) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| !same_place(place, other)), "{all:#?}");
        }
    }
}
