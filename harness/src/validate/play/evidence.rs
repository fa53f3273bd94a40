//! How much a case, a check or a profile was judged by.

use std::fmt;
use std::ops::AddAssign;

/// Counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Servers that were played.
    pub cases: u64,
    /// Requests that were answered as they had to be.
    pub answered: u64,
    /// Bytes that were read and of which it was known what they must be.
    pub compared: u64,
    /// A byte that was read, and all others are like it.
    pub(in crate::validate) alike: Option<u8>,
    /// Two bytes that were read are not alike.
    pub(in crate::validate) varied: bool,
}

impl Evidence {
    /// A read was answered with these bytes.
    pub(in crate::validate) fn reads(&mut self, bytes: &[u8]) {
        self.answered += 1;
        let Some((first, rest)) = bytes.split_first().filter(|_| !self.varied) else { return };
        let before = *self.alike.get_or_insert(*first);
        // Each is as the one before it: that is told of all of them at once.
        self.varied = before != *first || bytes.get(..rest.len()) != Some(rest);
    }

    /// The byte that all are like which were read, if they are.
    pub fn all_alike(&self) -> Option<u8> {
        self.alike.filter(|_| !self.varied)
    }
}

impl AddAssign for Evidence {
    fn add_assign(&mut self, other: Evidence) {
        self.varied |= other.varied;
        self.varied |= matches!((self.alike, other.alike), (Some(one), Some(another)) if one != another);
        self.alike = self.alike.or(other.alike);
        self.cases += other.cases;
        self.answered += other.answered;
        self.compared += other.compared;
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        write!(f, "{} case{}", self.cases, plural(self.cases))?;
        if self.answered > 0 {
            write!(f, ", {} request{} answered", self.answered, plural(self.answered))?;
        }
        if self.compared > 0 {
            write!(f, ", {} byte{} compared", self.compared, plural(self.compared))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_alike_until_one_is_not() {
        let mut evidence = Evidence::default();
        assert_eq!(evidence.all_alike(), None);
        evidence.reads(&[0; 100]);
        evidence.reads(&[]);
        evidence.reads(&[0]);
        assert_eq!(evidence.all_alike(), Some(0));
        let mut other = Evidence::default();
        other.reads(&[7; 5]);
        let mut both = evidence;
        both += other;
        assert_eq!(both.all_alike(), None);
        evidence.reads(&[0, 0, 1]);
        assert_eq!((evidence.all_alike(), evidence.answered), (None, 4));
    }

    #[test]
    fn what_was_not_counted_is_not_told() {
        assert_eq!(Evidence { cases: 1, ..Evidence::default() }.to_string(), "1 case");
        let some = Evidence { cases: 2, answered: 1, compared: 9, alike: Some(0), varied: false };
        assert_eq!(some.to_string(), "2 cases, 1 request answered, 9 bytes compared");
    }
}
