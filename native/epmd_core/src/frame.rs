//! Where a request ends in the bytes of a stream.

use crate::Refusal;
use crate::limits::{LENGTH_BYTES, MAX_REQUEST_BYTES, MAX_REQUEST_LENGTH};

/// Finds the one request of a connection in what has come so far.
///
/// Incomplete input is a value, not an error. The rules are those of `do_read`
/// in `epmd_srv.c`: surplus bytes refuse the request only in the read that
/// first shows its length; afterwards no more than the request is read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Framer {
    /// Bytes of the whole request, once its length field has come.
    want: Option<usize>,
}

impl Framer {
    /// How many bytes the next read may take, when `got` have come.
    #[must_use]
    pub fn room(&self, got: usize) -> usize {
        self.want.unwrap_or(MAX_REQUEST_BYTES).saturating_sub(got)
    }

    /// Looks at all bytes that have come so far: the request's body from its
    /// tag on, or `None` while some are missing.
    ///
    /// # Errors
    /// [`Refusal::InvalidLength`] and [`Refusal::SurplusData`].
    pub fn push<'a>(&mut self, received: &'a [u8]) -> Result<Option<&'a [u8]>, Refusal> {
        let Some((field, rest)) = received.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(*field));
        if self.want.is_none() {
            if length == 0 || length > MAX_REQUEST_LENGTH {
                return Err(Refusal::InvalidLength);
            }
            if rest.len() > length {
                return Err(Refusal::SurplusData);
            }
            self.want = Some(LENGTH_BYTES + length);
        }
        Ok((rest.len() >= length).then_some(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_request_is_its_body() {
        assert_eq!(Framer::default().push(b"\0\x01n"), Ok(Some(&b"n"[..])));
    }

    #[test]
    fn a_request_in_pieces_is_as_good_as_a_whole_one() {
        let mut framer = Framer::default();
        let all = b"\0\x03zn1";
        for got in 0..all.len() {
            assert_eq!(framer.push(&all[..got]), Ok(None));
        }
        assert_eq!(framer.push(all), Ok(Some(&b"zn1"[..])));
    }

    #[test]
    fn surplus_is_refused_when_it_comes_with_the_length() {
        assert_eq!(Framer::default().push(b"\0\x01nn"), Err(Refusal::SurplusData));
    }

    #[test]
    fn surplus_stays_unread_once_the_length_is_known() {
        let mut framer = Framer::default();
        assert_eq!(framer.room(0), MAX_REQUEST_BYTES);
        assert_eq!(framer.push(b"\0\x04"), Ok(None));
        assert_eq!(framer.room(2), 4);
    }

    #[test]
    fn lengths_of_nothing_and_beyond_the_limit_are_refused() {
        assert_eq!(Framer::default().push(b"\0\0"), Err(Refusal::InvalidLength));
        let (last, beyond) = (MAX_REQUEST_LENGTH as u16, MAX_REQUEST_LENGTH as u16 + 1);
        assert_eq!(Framer::default().push(&last.to_be_bytes()), Ok(None));
        assert_eq!(Framer::default().push(&beyond.to_be_bytes()), Err(Refusal::InvalidLength));
    }
}
