//! The UnixFS message inside a dag-pb node: what the node is, and a file's sizes and attributes.

use super::{
    Attributes, DagError, LINKS_PER_NODE_MAX, Mtime,
    protobuf::{Fields, Value, push_bytes, push_fixed32, push_varint},
};
use crate::varint;

/// What a node is; the numbers of the UnixFS specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// File bytes in a dag-pb envelope, as old tools wrote leaves.
    Raw,
    Directory,
    File,
    Symlink,
    Shard,
}

impl Kind {
    const fn number(self) -> u64 {
        match self {
            Kind::Raw => 0,
            Kind::Directory => 1,
            Kind::File => 2,
            Kind::Symlink => 4,
            Kind::Shard => 5,
        }
    }

    fn from_number(number: u64) -> Result<Kind, DagError> {
        match number {
            0 => Ok(Kind::Raw),
            1 => Ok(Kind::Directory),
            2 => Ok(Kind::File),
            3 => Err(DagError::Unsupported("a metadata node")),
            4 => Ok(Kind::Symlink),
            5 => Ok(Kind::Shard),
            _ => Err(DagError::Unsupported("a node of an unknown type")),
        }
    }
}

/// The fields of the message, absent ones as `None`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Data<'a> {
    pub(super) kind: Kind,
    pub(super) data: Option<&'a [u8]>,
    pub(super) filesize: Option<u64>,
    pub(super) blocksizes: Vec<u64>,
    pub(super) hash_type: Option<u64>,
    pub(super) fanout: Option<u64>,
    pub(super) attributes: Attributes,
}

impl<'a> Data<'a> {
    /// A message of this kind with nothing else in it.
    pub(super) fn new(kind: Kind, attributes: Attributes) -> Data<'a> {
        Data {
            kind,
            data: None,
            filesize: None,
            blocksizes: Vec::new(),
            hash_type: None,
            fanout: None,
            attributes,
        }
    }

    /// Writes the canonical form: fields in the order of their numbers, block sizes unpacked.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_varint(&mut out, 1, self.kind.number());
        if let Some(data) = self.data {
            push_bytes(&mut out, 2, data);
        }
        if let Some(filesize) = self.filesize {
            push_varint(&mut out, 3, filesize);
        }
        for blocksize in &self.blocksizes {
            push_varint(&mut out, 4, *blocksize);
        }
        if let Some(hash_type) = self.hash_type {
            push_varint(&mut out, 5, hash_type);
        }
        if let Some(fanout) = self.fanout {
            push_varint(&mut out, 6, fanout);
        }
        if let Some(mode) = self.attributes.mode {
            push_varint(&mut out, 7, u64::from(mode & Attributes::MODE_MASK));
        }
        if let Some(mtime) = self.attributes.mtime {
            push_bytes(&mut out, 8, &encode_mtime(mtime));
        }
        out
    }

    /// Reads the message; block sizes may be packed.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Data<'a>, DagError> {
        let mut message = Data::new(Kind::Raw, Attributes::default());
        let mut kind = None;
        for field in Fields(bytes) {
            match field? {
                (1, value) => kind = Some(Kind::from_number(value.varint()?)?),
                (2, value) => message.data = Some(value.bytes()?),
                (3, value) => message.filesize = Some(value.varint()?),
                (4, value) => message.take_blocksizes(value)?,
                (5, value) => message.hash_type = Some(value.varint()?),
                (6, value) => message.fanout = Some(value.varint()?),
                (7, value) => message.attributes.mode = Some(parse_mode(value.varint()?)),
                (8, value) => message.attributes.mtime = Some(parse_mtime(value.bytes()?)?),
                _ => {}
            }
        }
        message.kind = kind.ok_or(DagError::Malformed("a node has no type"))?;
        Ok(message)
    }

    fn take_blocksizes(&mut self, value: Value<'_>) -> Result<(), DagError> {
        let mut packed = match value {
            Value::Varint(blocksize) => return self.take_blocksize(blocksize),
            other => other.bytes()?,
        };
        while !packed.is_empty() {
            let blocksize = varint::take(&mut packed)
                .ok_or(DagError::Malformed("a packed block size is cut short"))?;
            self.take_blocksize(blocksize)?;
        }
        Ok(())
    }

    fn take_blocksize(&mut self, blocksize: u64) -> Result<(), DagError> {
        if self.blocksizes.len() >= LINKS_PER_NODE_MAX {
            return Err(DagError::limit(
                "block sizes in one node",
                LINKS_PER_NODE_MAX,
            ));
        }
        self.blocksizes.push(blocksize);
        Ok(())
    }
}

/// Readers ignore the bits above the permissions, as the specification demands.
fn parse_mode(mode: u64) -> u32 {
    u32::try_from(mode & u64::from(Attributes::MODE_MASK)).unwrap_or_default()
}

fn encode_mtime(mtime: Mtime) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, 1, mtime.secs.cast_unsigned());
    // A zero fraction is left out: the specification has one form for each time.
    if mtime.nanos != 0 {
        push_fixed32(&mut out, 2, mtime.nanos);
    }
    out
}

fn parse_mtime(bytes: &[u8]) -> Result<Mtime, DagError> {
    let (mut secs, mut nanos) = (None, 0);
    for field in Fields(bytes) {
        match field? {
            (1, value) => secs = Some(value.varint()?.cast_signed()),
            (2, value) => nanos = value.fixed32()?,
            _ => {}
        }
    }
    let secs = secs.ok_or(DagError::Malformed("a modification time has no seconds"))?;
    Mtime::new(secs, nanos).ok_or(DagError::Malformed(
        "a modification time has 10^9 ns or more",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn stamped() -> Attributes {
        Attributes {
            mode: Some(0o644),
            mtime: Mtime::new(-1, 5),
        }
    }

    #[test]
    fn canonical_bytes() {
        let check = |message: Data<'_>, bytes: &[u8]| {
            assert_eq!(message.encode(), bytes);
            assert_eq!(Data::parse(bytes), Ok(message));
        };
        check(Data::new(Kind::Directory, Attributes::default()), &[8, 1]);
        check(
            Data {
                filesize: Some(3),
                blocksizes: vec![1, 2],
                ..Data::new(Kind::File, Attributes::default())
            },
            &[8, 2, 0x18, 3, 0x20, 1, 0x20, 2],
        );
        check(
            Data {
                data: Some(b"to"),
                ..Data::new(Kind::Symlink, Attributes::default())
            },
            &[8, 4, 0x12, 2, b't', b'o'],
        );
        check(
            Data {
                data: Some(&[1]),
                hash_type: Some(0x22),
                fanout: Some(256),
                ..Data::new(Kind::Shard, Attributes::default())
            },
            &[8, 5, 0x12, 1, 1, 0x28, 0x22, 0x30, 0x80, 2],
        );
        let mut expected = vec![8, 1, 0x38, 0xa4, 3, 0x42, 16, 8];
        expected.extend([0xff; 9]);
        expected.extend([1, 0x15, 5, 0, 0, 0]);
        check(Data::new(Kind::Directory, stamped()), &expected);
        let whole_second = Attributes {
            mode: None,
            mtime: Mtime::new(2, 0),
        };
        check(
            Data::new(Kind::Directory, whole_second),
            &[8, 1, 0x42, 2, 8, 2],
        );
    }

    #[test]
    fn reads_packed_block_sizes_and_reserved_mode_bits() {
        let message = Data::parse(&[8, 2, 0x22, 3, 1, 0x80, 1, 0x20, 7]).unwrap();
        assert_eq!(message.blocksizes, [1, 128, 7]);
        let message = Data::parse(&[8, 1, 0x38, 0xff, 0xff, 0xff, 0xff, 0x0f]).unwrap();
        assert_eq!(message.attributes.mode, Some(0o7777));
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        let check = |bytes: &[u8], expected| assert_eq!(Data::parse(bytes), Err(expected));
        check(&[], DagError::Malformed("a node has no type"));
        check(&[8, 3], DagError::Unsupported("a metadata node"));
        check(&[8, 6], DagError::Unsupported("a node of an unknown type"));
        check(
            &[8, 1, 0x42, 0],
            DagError::Malformed("a modification time has no seconds"),
        );
        check(
            &[8, 1, 0x42, 7, 8, 0, 0x15, 0, 0xca, 0x9a, 0x3b],
            DagError::Malformed("a modification time has 10^9 ns or more"),
        );
        check(
            &[8, 2, 0x22, 1, 0x80],
            DagError::Malformed("a packed block size is cut short"),
        );
    }
}
