//! Random sequences of operations, the same for the same seed.

use super::script::{Leaving, Op};
use super::wire::{Node, framed, tagged};

/// The operations of a sequence.
pub fn sequence(seed: u64, length: usize) -> Vec<Op> {
    let mut random = Random(seed);
    // Below those of the programs that are compared: what listens on the port of a
    // node for a while would make it one that is gone.
    let mut generator = Generator { first_port: random.below(11_000) as u16, made: 0, random };
    let mut ops: Vec<Op> = (1..length).map(|_| generator.op()).collect();
    ops.push(ask(tagged(b'k', b"")));
    ops
}

/// `splitmix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Any bytes; many are the same one, to be printed short.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        if length > 50 {
            return vec![self.next() as u8; length];
        }
        (0..length).map(|_| self.next() as u8).collect()
    }
}

struct Generator {
    random: Random,
    first_port: u16,
    /// Every registration has a port of its own, which tells them apart.
    made: u16,
}

impl Generator {
    fn op(&mut self) -> Op {
        let index = self.random.below(8);
        match self.random.below(100) {
            0..26 => {
                let name = self.good_name();
                self.ask_for(&name)
            }
            26..32 => {
                let name = self.bad_name();
                self.ask_for(&name)
            }
            32..39 => self.whole(|generator| generator.malformed()),
            39..54 => self.whole(|generator| generator.lookup()),
            54..59 => self.whole(|generator| generator.listing()),
            59..64 => self.whole(|generator| generator.stop()),
            64..68 => self.whole(|generator| generator.unknown()),
            68..71 => self.surplus(),
            71..74 => self.mutated(),
            74 if self.random.one_in(4) => ask(tagged(b'k', b"")),
            74..79 => self.begin(),
            79..82 => Op::Finish { begun: index },
            82..90 => Op::Leave { holder: index, how: self.leaving() },
            90..94 => {
                Op::Return { holder: index, highest: self.version(), reset: self.random.one_in(3) }
            }
            94..96 => Op::DuplicateAndReset { holder: index },
            96..98 => {
                let name = self.good_name();
                Op::RegisterAndReset { node: self.node(&name) }
            }
            _ => Op::AskAndReset { bytes: self.harmless().into() },
        }
    }

    /// A request sent whole, in pieces, or with the sending side closed.
    fn whole(&mut self, request: impl FnOnce(&mut Self) -> Vec<u8>) -> Op {
        let bytes = request(self);
        let pieces = if self.random.one_in(12) && bytes.len() > 2 {
            let cut = 1 + self.random.below(bytes.len() - 1);
            vec![bytes[..cut].into(), bytes[cut..].into()]
        } else {
            vec![bytes.into()]
        };
        Op::Ask { pieces, half_close: self.random.one_in(8) }
    }

    fn ask_for(&mut self, name: &[u8]) -> Op {
        let request = self.node(name).request();
        self.whole(|_| request)
    }

    fn node(&mut self, name: &[u8]) -> Node {
        self.made += 1;
        let lengths = [0, 0, 0, 1, 2, 17, 255, 1_020];
        let length = *self.random.pick(&lengths);
        Node {
            name: name.into(),
            port: self.first_port + self.made,
            node_type: *self.random.pick(&[77, 72, 104, 110, 0, 255]),
            protocol: *self.random.pick(&[0, 0, 1, 255]),
            highest: self.version(),
            lowest: *self.random.pick(&[0, 5, 6, 65_535]),
            extra: self.random.bytes(length).into(),
        }
    }

    fn version(&mut self) -> u16 {
        *self.random.pick(&[0, 1, 2, 3, 4, 5, 5, 6, 6, 6, 7, 65_535])
    }

    fn good_name(&mut self) -> Vec<u8> {
        let odd = ["n 1", "a\nb", ">", "\u{fffe}", "\u{ffff}", "\u{10ffff}", "Å", "漢字", "😀"];
        match self.random.below(20) {
            0..14 => format!("n{}", self.random.below(6)).into_bytes(),
            14..17 => self.random.pick(&odd).as_bytes().to_vec(),
            17 => self.random.pick(&["n", "é", "漢", "😀"]).repeat(255).into_bytes(),
            18 => self.random.pick(&["n", "é", "漢", "😀"]).repeat(254).into_bytes(),
            _ => b"one".to_vec(),
        }
    }

    fn bad_name(&mut self) -> Vec<u8> {
        let bad: [&[u8]; 12] = [
            b"",
            b"",
            b"a\0b",
            b"a\0",
            b"\0",
            b"\xff",
            b"n\xc3",
            b"\xc0\x80",
            b"\xe0\x9f\xbf",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"\xf4\x90\x80\x80",
        ];
        match self.random.below(16) {
            0..12 => self.random.pick(&bad).to_vec(),
            12 => self.random.pick(&["n", "é", "漢"]).repeat(256).into_bytes(),
            13 => vec![b'n'; *self.random.pick(&[1_020, 1_021, 2_000])],
            14 => "😀".repeat(256).into_bytes(),
            _ => self.random.bytes(6),
        }
    }

    fn any_name(&mut self) -> Vec<u8> {
        if self.random.one_in(4) { self.bad_name() } else { self.good_name() }
    }

    /// A registration whose lengths do not fit, or are at their limits.
    fn malformed(&mut self) -> Vec<u8> {
        let name = self.good_name();
        let mut body = self.node(&name).body();
        match self.random.below(6) {
            0 => body.truncate(1 + self.random.below(body.len() - 1)),
            1 => body[9..11].copy_from_slice(&[self.random.below(6) as u8, 255]),
            2 => {
                let at = 11 + name.len();
                body[at..at + 2].copy_from_slice(&[self.random.below(6) as u8, 255]);
            }
            // What follows the extra data is ignored.
            3 => body.extend(b"more\0"),
            4 => {
                let length = *self.random.pick(&[1_020, 1_021, 1_500]);
                let extra = self.random.bytes(length).into();
                body = Node { extra, ..Node::new(b"extra", 1) }.body();
            }
            // The shortest: 13 bytes with an empty name, and one more.
            _ => {
                body = Node::new(b"", 1).body();
                body.extend(vec![b'n'; self.random.below(2)]);
            }
        }
        framed(&body)
    }

    fn lookup(&mut self) -> Vec<u8> {
        let mut name = self.any_name();
        name.extend(vec![0; *self.random.pick(&[0, 0, 0, 1, 2])]);
        tagged(b'z', &name)
    }

    fn listing(&mut self) -> Vec<u8> {
        let ignored = self.random.pick::<&[u8]>(&[b"", b"", b"ignored", b"\0"]);
        tagged(*self.random.pick(b"nd"), ignored)
    }

    fn stop(&mut self) -> Vec<u8> {
        let mut name = self.any_name();
        name.extend(self.random.pick(&[&b""[..], b"", b"\0", b"\0more"]).iter());
        tagged(b's', &name)
    }

    /// A tag that is none, or a length that cannot be.
    fn unknown(&mut self) -> Vec<u8> {
        let length = self.random.below(5);
        match self.random.below(5) {
            0 => vec![0, 0],
            1 => {
                let length = self.random.pick(&[3_058_u16, 3_059, 4_096, 65_535]).to_be_bytes();
                [&length[..], b"zn"].concat()
            }
            2 => tagged(b'z', &vec![b'n'; 3_056 + self.random.below(3)]),
            3 => tagged(*self.random.pick(b"ap\0yvwXZ\xff"), &self.random.bytes(length)),
            _ => tagged(b'N', b"ignored"),
        }
    }

    /// More bytes than the length says, with it or after it. Not for listings: C
    /// writes them a line at a time, and loses lines when it closes unread.
    fn surplus(&mut self) -> Op {
        let node = self.node(b"surplus");
        // C reads as much as the longest request has, and so misses its surplus.
        let longest = [node.body(), vec![0; 3_057]].concat()[..3_057].to_vec();
        let requests = [tagged(b'z', b"n1"), tagged(b's', b"n1"), node.request(), framed(&longest)];
        let mut bytes = self.random.pick(&requests).clone();
        let length = 1 + self.random.below(4);
        bytes.extend(self.random.bytes(length));
        let pieces = match self.random.below(4) {
            0 => vec![bytes.into()],
            cut => vec![bytes[..cut].into(), bytes[cut..].into()],
        };
        Op::Ask { pieces, half_close: false }
    }

    /// A good request with one byte changed, which may be its length.
    fn mutated(&mut self) -> Op {
        let name = self.good_name();
        let mut bytes = match self.random.below(3) {
            0 => self.node(&name).request(),
            1 => self.lookup(),
            _ => self.stop(),
        };
        let at = self.random.below(bytes.len().min(24));
        bytes[at] = self.random.next() as u8;
        // C has no MATCH and no WATCH.
        if matches!(bytes[2], b'M' | b'W') {
            bytes[2] = b'?';
        }
        Op::Ask { pieces: vec![bytes.into()], half_close: true }
    }

    fn begin(&mut self) -> Op {
        let name = self.good_name();
        let bytes = if self.random.one_in(3) { self.lookup() } else { self.node(&name).request() };
        let sent = self.random.below(bytes.len());
        Op::Begin { bytes: bytes.into(), sent }
    }

    fn leaving(&mut self) -> Leaving {
        let length = *self.random.pick(&[1, 3, 100, 3_060]);
        match self.random.below(6) {
            0..2 => Leaving::Close,
            2 => Leaving::Reset,
            3 => Leaving::HalfClose,
            _ => Leaving::Data(self.random.bytes(length).into()),
        }
    }

    fn harmless(&mut self) -> Vec<u8> {
        match self.random.below(4) {
            0 => self.lookup(),
            1 => self.listing(),
            2 => b"\0\x09z".to_vec(),
            _ => vec![],
        }
    }
}

fn ask(request: Vec<u8>) -> Op {
    Op::Ask { pieces: vec![request.into()], half_close: false }
}
