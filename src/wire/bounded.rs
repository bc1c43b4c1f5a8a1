//! Collections whose length a peer cannot choose freely.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A list of at most `MAX` items. More are an error before they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T, const MAX: usize>(pub Vec<T>);

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<T: Serialize, const MAX: usize> Serialize for List<T, MAX> {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        debug_assert!(self.0.len() <= MAX, "the sender keeps the limit too");
        self.0.serialize(output)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_seq(ListVisitor::<T, MAX>(PhantomData)).map(List)
    }
}

struct ListVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a list of at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Vec<T>, A::Error> {
        // Grown item by item: an announced count reserves nothing.
        let mut items = Vec::new();
        while let Some(item) = input.next_element()? {
            if items.len() == MAX {
                return Err(A::Error::custom("list too long"));
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// At most `MAX` bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob<const MAX: usize>(pub Vec<u8>);

impl<const MAX: usize> fmt::Debug for Blob<MAX> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "b\"{}\"", self.0.escape_ascii())
    }
}

impl<const MAX: usize> Serialize for Blob<MAX> {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_bytes(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Blob<MAX> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_bytes(BlobVisitor::<MAX>).map(Blob)
    }
}

/// Reads a byte string of at most `MAX` bytes.
pub(super) struct BlobVisitor<const MAX: usize>;

impl<const MAX: usize> Visitor<'_> for BlobVisitor<MAX> {
    type Value = Vec<u8>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "at most {MAX} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        if bytes.len() > MAX { Err(E::custom("bytes too long")) } else { Ok(bytes.to_vec()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_count_is_refused_without_reserving_anything() {
        let claim = postcard::to_stdvec(&u64::MAX).unwrap();
        assert!(postcard::from_bytes::<List<u8, 10>>(&claim).is_err());
        assert!(postcard::from_bytes::<Blob<10>>(&claim).is_err());
    }

    #[test]
    fn one_item_over_the_limit_is_refused() {
        let bytes = postcard::to_stdvec(&vec![7_u8; 11]).unwrap();
        assert!(postcard::from_bytes::<List<u8, 10>>(&bytes).is_err());
        assert_eq!(postcard::from_bytes::<List<u8, 11>>(&bytes).unwrap().0, [7; 11]);
        assert!(postcard::from_bytes::<Blob<10>>(&bytes).is_err());
    }
}
