//! Tells states of the whole machine apart: a hash of everything that decides what can happen next.
//!
//! The text is what `Debug` shows of engine, device, wire, host and volume. Read with it are the names of fields, so that
//! what makes no difference to the future makes none to the hash:
//!
//! - Names that are given out one after the other (slots and generations of handles, keys of objects, queue pair numbers,
//!   ages of what is on the wire, epochs, controller ids, source ports, revisions, counts of flaps and writes, numbers of
//!   steps, values of blocks) stand for their rank among those of their kind in the state. The code compares them for
//!   equality and order only.
//! - Moments are relative to now. What is past is past, but for the few moments that the code looks back at, which count
//!   for as long as it does.
//! - Left out are counters and statistics, texts for people, what is constant in the scope (desired state, injected
//!   faults), addresses of memory, numbers that only come back in answers (the head of a submission queue), and which of
//!   many equal free buffers, receives, response slots and slots of tables is taken next: two I/Os never run out of them.
//!
//! Two states are taken for one if their 64-bit hashes are the same.

use std::fmt;
use std::ops::Range;
use std::time::Instant;

use weir_core::provider::sim::KEYS_OF_A_KIND;

/// How long a moment in a field is looked back at, in nanoseconds: longer ago is all alike. The others are deadlines: they
/// are to come, now, or past.
fn looked_back_at(field: &str) -> i128 {
    match field {
        // The lifecycle's `CALM`.
        "up_since" => 5_000_000_000,
        // How long news of a link may take to be seen, at the management queue pair.
        "failure" => 150_000_000,
        // Completion queues whose polling fails.
        "since" => 10_000_000_000,
        _ => 1,
    }
}

/// Whether a byte ends a word.
const ENDS_WORDS: [bool; 256] = {
    let mut ends = [false; 256];
    let all = b" ,{}[]()\n\"";
    let mut index = 0;
    while index < all.len() {
        ends[all[index] as usize] = true;
        index += 1;
    }
    ends
};

/// The rank of a slot is among slots, not among generations of one.
const SLOT: u64 = u64::MAX;

/// Kinds of names. Each is ranked by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Share,
    QueuePair,
    Request,
    Association,
    Fence,
    Connection,
    Receive,
    Age,
    Key,
    Region,
    QueuePairNumber,
    Epoch,
    ControllerId,
    SourcePort,
    Revision,
    Downs,
    Step,
    Probe,
    Value,
    Writes,
    Question,
}

/// Structs of which nothing is looked at.
fn is_skipped_struct(name: &str) -> bool {
    matches!(
        name,
        "PollerCounters"
            | "PortCounters"
            | "PortStatistics"
            | "IoCounters"
            | "Journal"
            | "Arena"
            | "Mapping"
            | "RegisteredSlot"
            | "BufferPool"
            | "NodeSpec"
    )
}

/// Fields that are not looked at, whatever they are of.
fn is_skipped_field(name: &str) -> bool {
    matches!(
        name,
        "counters"
            | "statistics"
            | "journal"
            | "retired"
            | "desired"
            | "spec"
            | "settings"
            | "message"
            | "address"
            | "base"
            | "memory"
            | "local_key"
            | "fingerprint"
            | "taken"
            | "received_at"
            | "created"
            | "now"
            | "since_unix_ms"
            | "drain"
            | "pools"
            | "response_slots"
            | "response_free"
            | "response_memory"
            | "idle"
            | "receive_regions"
            | "small_regions"
            | "large_regions"
            | "poller_host"
            | "limits"
            | "sizing"
            | "next_address"
            | "sim"
            | "async_signal"
            | "wake"
            | "queue_head"
            | "last_value"
    )
}

/// Fields that are not looked at in these structs.
fn is_skipped_part(owner: &str, name: &str) -> bool {
    matches!(
        (owner, name),
        ("Request", "response")
            | ("Buffer", "piece" | "index")
            | ("Table", "free")
            | ("ControllerIds", "next")
            | ("Control", "generation" | "last_probe")
            | ("Port", "reason")
    )
}

/// An empty slot of a table, or a receive that waits for whatever comes.
fn is_free(text: &str) -> bool {
    if text.starts_with("Receive { memory: RegisteredSlot { .. }, state: Posted,") {
        return true;
    }
    let Some((_, value)) = text
        .strip_prefix("Slot { generation: ")
        .and_then(|rest| rest.split_once(", "))
    else {
        return false;
    };
    value.starts_with("value: None }")
}

#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    /// Struct, variant, or that of what a list stands in.
    name: &'a str,
    /// The field whose value comes now, or that of what a list stands in.
    field: &'a str,
    bracket: u8,
    /// Values so far.
    index: u64,
    /// Of handles below.
    kind: Option<Kind>,
    seconds: i128,
    slot: u64,
}

/// Whether fields are skipped, by the hash of their names: asked a thousand times for each state.
#[derive(Debug)]
struct SkippedFields(Vec<(u64, bool)>);

impl SkippedFields {
    const ROOM: usize = 4096;

    fn has(&mut self, hash: u64, name: &str) -> bool {
        let known = &mut self.0[hash as usize % Self::ROOM];
        if known.0 != hash {
            *known = (hash, is_skipped_field(name));
        }
        known.1
    }
}

impl Default for SkippedFields {
    fn default() -> Self {
        Self(vec![(0, false); Self::ROOM])
    }
}

/// What one more piece of text means.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Literal(u64),
    Name(Kind, (u64, u64)),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    now: i128,
    frames: Vec<Frame<'a>>,
    pieces: &'a mut Vec<Piece>,
    skipped: &'a mut SkippedFields,
    /// The port's link has been up for longer than the lifecycle looks back.
    calm: bool,
    /// The queue pair belongs to an association.
    associated: bool,
}

fn mix(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .rotate_left(31)
}

fn hash_of(text: &str) -> u64 {
    let mut state = text.len() as u64;
    for part in text.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        state = mix(state, u64::from_le_bytes(word));
    }
    state
}

/// The kind of the handles in a field or variant.
fn kind_of_handle(frame: &Frame<'_>) -> Kind {
    match (frame.name, frame.field) {
        (_, "share") => Kind::Share,
        (_, "association") => Kind::Association,
        (_, "fence") | (_, "fenced") | ("Parked", _) => Kind::Fence,
        ("ConnectionKey", _) | (_, "due") => Kind::Connection,
        (_, "orphans") => Kind::Request,
        (_, "queue_pair" | "queue_pairs" | "handle" | "dirty" | "settled" | "numbers") => Kind::QueuePair,
        ("Close" | "Established" | "Adopted", _) => Kind::QueuePair,
        (name, field) => panic!("a handle of unknown kind in field {field} of {name}"),
    }
}

fn kind_of_table(field: &str) -> Kind {
    match field {
        "shares" => Kind::Share,
        "queue_pairs" => Kind::QueuePair,
        "requests" => Kind::Request,
        "associations" => Kind::Association,
        "fences" => Kind::Fence,
        "table" => Kind::Connection,
        _ => panic!("a table of unknown kind in field {field}"),
    }
}

impl<'a> Reader<'a> {
    fn frame(&mut self) -> &mut Frame<'a> {
        self.frames.last_mut().expect("there is always one")
    }

    fn literal(&mut self, word: u64) {
        self.pieces.push(Piece::Literal(word));
    }

    fn slot(&mut self, kind: Kind, slot: u64) {
        self.name(kind, (SLOT, slot));
    }

    fn name(&mut self, kind: Kind, name: (u64, u64)) {
        self.pieces.push(Piece::Literal(kind as u64 + 1));
        self.pieces.push(Piece::Name(kind, name));
    }

    fn open(&mut self, name: &'a str, bracket: u8) {
        self.literal(mix(hash_of(name), u64::from(bracket)));
        let parent = *self.frame();
        let mut frame = Frame {
            bracket,
            index: 0,
            seconds: 0,
            slot: 0,
            ..parent
        };
        match name {
            "" | "Some" | "Ok" => {}
            "Handle" => {
                frame.kind = Some(kind_of_handle(&parent));
                frame.name = name;
                frame.field = "";
            }
            "Table" => {
                frame.kind = Some(kind_of_table(parent.field));
                frame.name = name;
                frame.field = "";
            }
            "Slot" => {
                frame.slot = parent.index;
                frame.name = name;
                frame.field = "";
            }
            "Receive" => {
                frame.slot = parent.index;
                frame.kind = Some(Kind::Receive);
                frame.name = name;
                frame.field = "";
            }
            _ => {
                frame.name = name;
                frame.field = "";
            }
        }
        self.frames.push(frame);
    }

    /// Goes on behind the value that comes now: to the comma or bracket that ends it.
    fn skip(&mut self) {
        let bytes = self.text.as_bytes();
        let mut depth = 0;
        loop {
            match bytes[self.at] {
                b'{' | b'[' | b'(' => depth += 1,
                b'}' | b']' | b')' if depth == 0 => return,
                b'}' | b']' | b')' => depth -= 1,
                b',' if depth == 0 => return,
                b'"' => self.skip_string(),
                _ => {}
            }
            self.at += 1;
        }
    }

    /// From the opening quotation mark to the closing one.
    fn skip_string(&mut self) {
        let bytes = self.text.as_bytes();
        self.at += 1;
        while bytes[self.at] != b'"' {
            self.at += 1 + usize::from(bytes[self.at] == b'\\');
        }
    }

    fn close(&mut self) {
        let frame = self.frames.pop().expect("brackets match");
        self.literal(u64::from(frame.bracket) << 8);
    }

    fn field(&mut self, name: &'a str) {
        self.frame().field = name;
        let frame = *self.frame();
        let hash = hash_of(name);
        self.literal(hash);
        match (frame.name, name) {
            ("PortState", "up_since") => self.calm = false,
            ("QueuePair", "association") => self.associated = !self.text[self.at..].starts_with(": None"),
            _ => {}
        }
        let answered = self.associated && (frame.name, name) == ("QueuePair", "connect_deadline");
        let quieted = self.calm && (frame.name, name) == ("PortState", "restless");
        if self.skipped.has(hash, name) || is_skipped_part(frame.name, name) || answered || quieted {
            self.skip();
        }
    }

    fn comma(&mut self) {
        self.frame().index += 1;
    }

    fn token(&mut self, token: u64) {
        let (slot, generation) = (token >> 32 & 0xff_ffff, token & 0xffff_ffff);
        match token >> 56 {
            _ if token >> 62 == 3 => self.name(Kind::Probe, (0, token)),
            1 => {
                self.slot(Kind::Receive, slot);
                self.name(Kind::Receive, (slot, generation));
            }
            kind @ 2..=5 => {
                self.literal(kind);
                self.slot(Kind::Request, slot);
                self.name(Kind::Request, (slot, generation));
            }
            0 if token != 0 => {
                // A connection's: the generation is the upper half.
                let (slot, generation) = (token & 0xffff_ffff, token >> 32);
                self.slot(Kind::Connection, slot);
                self.name(Kind::Connection, (slot, generation));
            }
            _ => self.literal(token),
        }
    }

    /// An object of the simulated device. Which of two objects of different kinds is the older makes no difference.
    fn key(&mut self, key: u64) {
        let kind = key / KEYS_OF_A_KIND;
        self.literal(kind);
        self.name(Kind::Key, (kind, key));
    }

    fn number(&mut self, text: &'a str, is_map_key: bool) {
        let Ok(number) = text.parse::<u64>() else {
            return self.word(text);
        };
        let frame = *self.frame();
        let kind = match (frame.name, frame.field) {
            ("Instant", "tv_sec") => {
                self.frame().seconds = i128::from(number);
                return;
            }
            ("Instant", "tv_nsec") => {
                let moment = frame.seconds * 1_000_000_000 + i128::from(number);
                let field = self.frames[self.frames.len() - 2].field;
                let longest = looked_back_at(field);
                let relative = (moment - self.now).max(-longest);
                self.calm |= field == "up_since" && relative == -longest;
                return self.literal(mix(hash_of("moment"), relative as u64));
            }
            ("Handle", "slot") => {
                self.frame().slot = number;
                return;
            }
            ("Handle" | "Slot" | "Receive", "generation") => {
                if let Some(kind) = frame.kind {
                    self.slot(kind, frame.slot);
                    self.name(kind, (frame.slot, number));
                }
                return;
            }
            ("RequestList", "head" | "tail") if number < u64::from(u32::MAX) => {
                return self.slot(Kind::Request, number);
            }
            (_, "token") => return self.token(number),
            (_, "spent") if frame.index == 0 => return self.token(number),
            (_, "age" | "send") => Kind::Age,
            (_, "capsules" | "arrival") if frame.bracket == b'(' && frame.index == 0 => Kind::Age,
            ("SimMemoryRegion", "key") => Kind::Region,
            // Registered once.
            ("HostRegion", _) => return,
            (_, "regions") if is_map_key || frame.name == "World" => Kind::Region,
            (_, "queue_pairs" | "numbers") if is_map_key => Kind::QueuePairNumber,
            (_, "number" | "queue_pair_number" | "queue_pair") if number != 0 => Kind::QueuePairNumber,
            ("LastWorkRequestReached" | "QueuePairFatal", _) => Kind::QueuePairNumber,
            (_, "key" | "device" | "domain" | "completion_queue" | "receive_queue" | "connection" | "listener") => {
                return self.key(number);
            }
            (_, "devices" | "domains" | "completion_queues" | "receive_queues" | "listeners" | "connections") => {
                return self.key(number);
            }
            (
                "Request" | "Established" | "Disconnected" | "Failed" | "TimewaitExit" | "ConnectionRemoval"
                | "ListenerRemoval" | "AddressChange" | "HostConnection",
                "" | "events",
            ) if frame.index == 0 => return self.key(number),
            (_, "epoch") | ("Epoch", _) => Kind::Epoch,
            (_, "epochs") if is_map_key => Kind::Epoch,
            (_, "controller_id") => Kind::ControllerId,
            (_, "hosts") if frame.bracket == b'(' && frame.index == 2 => Kind::ControllerId,
            (_, "revision" | "discovery_generation") => Kind::Revision,
            (_, "downs" | "seen_flaps") => Kind::Downs,
            (_, "step" | "empty_in_step") => Kind::Step,
            (_, "writes") => Kind::Writes,
            (_, "question" | "questions" | "last_question" | "fence_questions" | "until") => Kind::Question,
            ("Block", "possible" | "in_flight" | "acknowledged") | ("State", "blocks") | ("Pending", "value")
                if number != 0 =>
            {
                Kind::Value
            }
            _ => return self.literal(number),
        };
        self.name(kind, (0, number));
    }

    /// Anything else: a name without a value, a duration, an address.
    fn word(&mut self, text: &'a str) {
        if self.frame().field == "source" {
            if let Some(port) = text.rsplit(':').next().and_then(|port| port.parse().ok()) {
                return self.name(Kind::SourcePort, (0, port));
            }
        }
        self.literal(hash_of(text));
    }

    fn read(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b' ' | b'\n' => self.at += 1,
                b',' => {
                    self.comma();
                    self.at += 1;
                }
                b':' => self.at += 1,
                b'{' | b'[' | b'(' => {
                    self.open("", byte);
                    self.at += 1;
                }
                b'}' | b']' | b')' => {
                    self.close();
                    self.at += 1;
                }
                b'"' => {
                    let start = self.at;
                    self.skip_string();
                    self.at += 1;
                    self.literal(hash_of(&self.text[start..self.at]));
                }
                _ => self.read_word(bytes),
            }
        }
    }

    fn read_word(&mut self, bytes: &'a [u8]) {
        let start = self.at;
        while self.at < bytes.len() && !ENDS_WORDS[bytes[self.at] as usize] {
            // A colon inside belongs to the word (an address); one at its end says that it names what follows.
            let next = bytes.get(self.at + 1).copied().unwrap_or(b' ');
            if bytes[self.at] == b':' && (next == b' ' || next == b'\n') {
                break;
            }
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        let names = bytes.get(self.at) == Some(&b':');
        let is_number = word.as_bytes()[0].is_ascii_digit();
        if names && !is_number {
            self.field(word);
        } else if is_number {
            self.number(word, names);
        } else {
            let mut next = self.at;
            while bytes.get(next) == Some(&b' ') {
                next += 1;
            }
            match bytes.get(next) {
                Some(b'{' | b'(') if is_skipped_struct(word) || is_free(&self.text[start..]) => {
                    self.at = next;
                    self.skip();
                }
                Some(&bracket @ (b'{' | b'(')) => {
                    self.open(word, bracket);
                    self.at = next + 1;
                }
                _ => self.word(word),
            }
        }
    }
}

/// A moment as `Debug` shows it, for nothing else tells its number.
fn nanoseconds_as_shown(moment: Instant) -> i128 {
    let text = format!("{moment:?}");
    let numbers = text
        .split(|one: char| !one.is_ascii_digit())
        .filter_map(|part| part.parse::<i128>().ok());
    let numbers: Vec<i128> = numbers.collect();
    let [seconds, nanoseconds] = numbers[..] else {
        panic!("a moment is shown as seconds and nanoseconds, not as {text}")
    };
    seconds * 1_000_000_000 + nanoseconds
}

/// What one part of a state reads as. Most turns change one or two of the parts, so that most were read before.
#[derive(Debug, Default)]
struct ReadBefore {
    /// Of the text and of the moment it was read at.
    hash: u64,
    pieces: Vec<Piece>,
}

/// Parts of a state.
const PARTS_MAX: usize = 8;

/// Parts that are remembered; a newer one takes the place of an older.
const REMEMBERED: usize = 1 << 12;

/// Takes the text of a state, part by part. Names may go through all of them, brackets not.
#[derive(Debug)]
pub struct Parts<'a> {
    text: &'a mut String,
    ends: &'a mut Vec<usize>,
}

impl Parts<'_> {
    /// What was written since the last part is one.
    pub fn end(&mut self) {
        assert!(self.ends.len() < PARTS_MAX, "more parts than there are places for");
        self.ends.push(self.text.len());
    }
}

impl fmt::Write for Parts<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.write_str(text)
    }
}

/// Makes fingerprints, one after the other in the same memory.
#[derive(Debug)]
pub struct Fingerprinter {
    text: String,
    /// Where each part ends in the text.
    ends: Vec<usize>,
    read: Vec<Piece>,
    remembered: Vec<ReadBefore>,
    /// Places in `remembered` that make up the state, in order.
    parts: Vec<usize>,
    names: Vec<(Kind, (u64, u64))>,
    ranks: Vec<u64>,
    skipped: SkippedFields,
}

impl Default for Fingerprinter {
    fn default() -> Self {
        Self {
            text: String::new(),
            ends: Vec::new(),
            read: Vec::new(),
            remembered: std::iter::repeat_with(ReadBefore::default).take(REMEMBERED).collect(),
            parts: Vec::new(),
            names: Vec::new(),
            ranks: Vec::new(),
            skipped: SkippedFields::default(),
        }
    }
}

/// Literals that follow each other, as one.
fn digest(read: &[Piece], pieces: &mut Vec<Piece>) {
    pieces.clear();
    let mut run = None;
    for piece in read {
        match piece {
            Piece::Literal(word) => run = Some(mix(run.unwrap_or(0), *word)),
            Piece::Name(..) => {
                pieces.extend(run.take().map(Piece::Literal));
                pieces.push(*piece);
            }
        }
    }
    pieces.extend(run.map(Piece::Literal));
}

impl Fingerprinter {
    /// The fingerprint of a state at `now`, which `describe` shows as text: after each part it says where the part ends.
    pub fn fingerprint(&mut self, now: Instant, describe: impl FnOnce(&mut Parts<'_>) -> fmt::Result) -> u64 {
        let Self { text, ends, .. } = self;
        text.clear();
        ends.clear();
        describe(&mut Parts { text, ends }).expect("a string has room");
        assert_eq!(ends.last(), Some(&text.len()), "the last part has an end");
        self.parts.clear();
        let now = nanoseconds_as_shown(now);
        let mut start = 0;
        for index in 0..self.ends.len() {
            let end = self.ends[index];
            self.read_part(index, start..end, now);
            start = end;
        }
        self.rank();
        let mut state = 0;
        for piece in self.parts.iter().flat_map(|part| &self.remembered[*part].pieces) {
            state = match piece {
                Piece::Literal(word) => mix(state, *word),
                Piece::Name(kind, name) => {
                    let index = self.names.binary_search(&(*kind, *name)).expect("it was put there");
                    mix(state, self.ranks[index])
                }
            };
        }
        state
    }

    /// Reads a part, unless it was read before.
    fn read_part(&mut self, index: usize, range: Range<usize>, now: i128) {
        let text = &self.text[range];
        let hash = mix(mix(hash_of(text), now as u64), index as u64);
        // Each part of a state has places of its own: two of them never take each other's.
        let part = (hash as usize % (REMEMBERED / PARTS_MAX)) * PARTS_MAX + index;
        self.parts.push(part);
        if self.remembered[part].hash == hash {
            return;
        }
        self.read.clear();
        let root = Frame {
            name: "",
            field: "",
            bracket: b' ',
            index: 0,
            kind: None,
            seconds: 0,
            slot: 0,
        };
        let mut reader = Reader {
            text,
            at: 0,
            now,
            frames: vec![root],
            pieces: &mut self.read,
            skipped: &mut self.skipped,
            calm: false,
            associated: false,
        };
        reader.read();
        assert_eq!(reader.frames.len(), 1, "brackets match");
        let place = &mut self.remembered[part];
        place.hash = hash;
        digest(&self.read, &mut place.pieces);
    }

    /// Ranks: by kind, and for handles by slot.
    fn rank(&mut self) {
        let Self {
            parts,
            remembered,
            names,
            ranks,
            ..
        } = self;
        names.clear();
        for piece in parts.iter().flat_map(|part| &remembered[*part].pieces) {
            if let Piece::Name(kind, name) = piece {
                names.push((*kind, *name));
            }
        }
        names.sort_unstable();
        names.dedup();
        ranks.clear();
        for (index, (kind, (slot, _))) in names.iter().enumerate() {
            let follows = index > 0 && (names[index - 1].0, names[index - 1].1.0) == (*kind, *slot);
            ranks.push(if follows { ranks[index - 1] + 1 } else { 0 });
        }
    }
}
