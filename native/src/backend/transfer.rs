//! What one disk I/O does next: a pure state machine that both engines drive, so that short transfers, missing
//! `fallocate` modes and misaligned memory are handled in one place.

use super::{IoOperation, IoRequest};

/// Bytes of a bounce buffer, and so of one piece of a transfer from or to misaligned memory.
pub(super) const BOUNCE_BYTES: usize = 16 * 1024;

/// Bytes of one write when zeroes must really be written.
const ZEROES_BYTES: usize = 64 * 1024;

/// Longest single read or write, well below the kernel's `MAX_RW_COUNT` (2 GiB less a page).
const PIECE_BYTES_MAX: u64 = 1 << 30;

/// A short direct transfer goes on at a multiple of this, the smallest logical block of any device.
const SECTOR_BYTES: u64 = 512;

/// How often one step is repeated after `EINTR` or `EAGAIN` before the error is passed up.
const REPEATS_MAX: u8 = 16;

#[repr(C, align(4096))]
struct Zeroes([u8; ZEROES_BYTES]);

/// Source of written zeroes; aligned for direct I/O.
static ZEROES: Zeroes = Zeroes([0; ZEROES_BYTES]);

/// One system call's worth of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// `preadv` of `length` bytes at `offset` into `address`.
    Read { address: u64, length: u32, offset: u64 },
    /// `pwritev2` of `length` bytes from `address` at `offset`; `durable` is `RWF_DSYNC`.
    Write {
        address: u64,
        length: u32,
        offset: u64,
        durable: bool,
    },
    /// `fsync`.
    Sync,
    /// `fallocate` with `mode`.
    Fallocate { mode: i32, offset: u64, length: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Data,
    Sync,
    PunchHole,
    ZeroRange,
    WriteZeroes,
}

/// One I/O on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    operation: IoOperation,
    stage: Stage,
    repeats: u8,
    offset: u64,
    length: u64,
    done: u64,
    memory: u64,
    /// Address of a bounce buffer; 0 when the caller's memory is aligned well enough.
    bounce: u64,
}

impl Transfer {
    /// Begins an I/O. `memory_alignment` is what the file asks of addresses (a power of two); `bounce` is the address of
    /// [`BOUNCE_BYTES`] aligned bytes of this I/O's own, used only if `request.memory` is not aligned.
    pub(super) fn new(request: &IoRequest, memory_alignment: u32, bounce: u64) -> Self {
        let stage = match request.operation {
            IoOperation::Read | IoOperation::Write { .. } => Stage::Data,
            IoOperation::Flush => Stage::Sync,
            IoOperation::WriteZeroes { deallocate: false } => Stage::ZeroRange,
            IoOperation::WriteZeroes { deallocate: true } | IoOperation::Deallocate => Stage::PunchHole,
        };
        let aligned = request.memory % u64::from(memory_alignment) == 0;
        Self {
            operation: request.operation,
            stage,
            repeats: 0,
            offset: request.offset,
            length: request.length,
            done: 0,
            memory: request.memory,
            bounce: if aligned { 0 } else { bounce },
        }
    }

    /// The next system call; `None` when nothing is to be done at all (a length of 0).
    pub(super) fn step(&self) -> Option<Step> {
        let left = self.length - self.done;
        if left == 0 && self.stage != Stage::Sync {
            return None;
        }
        let offset = self.offset + self.done;
        Some(match self.stage {
            Stage::Sync => Step::Sync,
            Stage::PunchHole => Step::Fallocate {
                mode: libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                offset,
                length: left,
            },
            Stage::ZeroRange => Step::Fallocate {
                mode: libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
                offset,
                length: left,
            },
            Stage::WriteZeroes => Step::Write {
                address: ZEROES.0.as_ptr() as u64,
                length: piece(left, ZEROES_BYTES as u64),
                offset,
                durable: false,
            },
            Stage::Data => {
                let (address, length) = if self.bounce == 0 {
                    (self.memory + self.done, piece(left, PIECE_BYTES_MAX))
                } else {
                    (self.bounce, piece(left, BOUNCE_BYTES as u64))
                };
                if let IoOperation::Write { durable } = self.operation {
                    self.fill_bounce(length);
                    Step::Write {
                        address,
                        length,
                        offset,
                        durable,
                    }
                } else {
                    Step::Read {
                        address,
                        length,
                        offset,
                    }
                }
            }
        })
    }

    /// Takes the result of the last step (bytes, or a negative `errno`): `Some(errno)` when the I/O is over, `None` when
    /// [`Self::step`] has more to do.
    pub(super) fn advance(&mut self, result: i32) -> Option<i32> {
        if result < 0 {
            return self.fail(-result);
        }
        self.repeats = 0;
        let left = self.length - self.done;
        match self.stage {
            Stage::Sync | Stage::PunchHole | Stage::ZeroRange => return Some(0),
            Stage::Data | Stage::WriteZeroes => {}
        }
        let mut moved = u64::from(result.unsigned_abs());
        if moved < left {
            // What goes on must be aligned for direct I/O: redo a broken sector.
            moved -= moved % SECTOR_BYTES;
        }
        if moved == 0 || moved > left {
            // End of file below the size we serve (somebody truncated it), or nonsense.
            return Some(libc::EIO);
        }
        if self.operation == IoOperation::Read {
            self.empty_bounce(moved);
        }
        self.done += moved;
        (self.done == self.length).then_some(0)
    }

    fn fail(&mut self, errno: i32) -> Option<i32> {
        let unsupported = matches!(errno, libc::EOPNOTSUPP | libc::ENOSYS);
        match self.stage {
            _ if matches!(errno, libc::EINTR | libc::EAGAIN) && self.repeats < REPEATS_MAX => {
                self.repeats += 1;
                None
            }
            // Deallocate is advice.
            Stage::PunchHole if unsupported && self.operation == IoOperation::Deallocate => Some(0),
            Stage::PunchHole if unsupported => {
                self.stage = Stage::ZeroRange;
                None
            }
            Stage::ZeroRange if unsupported => {
                self.stage = Stage::WriteZeroes;
                None
            }
            _ => Some(errno),
        }
    }

    fn fill_bounce(&self, length: u32) {
        if self.bounce != 0 {
            // SAFETY: the caller of `push` lends `length` bytes at `memory` until completion, `length` is at most what is
            // left of them and at most BOUNCE_BYTES, and the bounce buffer is this I/O's own.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    (self.memory + self.done) as *const u8,
                    self.bounce as *mut u8,
                    length as usize,
                );
            }
        }
    }

    fn empty_bounce(&self, length: u64) {
        if self.bounce != 0 {
            assert!(length <= BOUNCE_BYTES as u64, "kernel reports more than was asked");
            // SAFETY: as in `fill_bounce`, the other way round.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    self.bounce as *const u8,
                    (self.memory + self.done) as *mut u8,
                    length as usize,
                );
            }
        }
    }
}

fn piece(left: u64, max: u64) -> u32 {
    u32::try_from(left.min(max)).expect("a piece is at most 1 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BackingId;

    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

    fn transfer(operation: IoOperation, length: u64) -> Transfer {
        let request = IoRequest {
            token: 1,
            backing: BackingId(1),
            operation,
            offset: 8192,
            length,
            memory: 0x10_0000,
        };
        Transfer::new(&request, 512, 0)
    }

    #[test]
    fn a_read_that_comes_in_pieces_goes_on_where_it_stopped() {
        let mut io = transfer(IoOperation::Read, 8192);
        assert_eq!(
            io.step(),
            Some(Step::Read {
                address: 0x10_0000,
                length: 8192,
                offset: 8192
            })
        );
        assert_eq!(io.advance(4096 + 100), None);
        assert_eq!(
            io.step(),
            Some(Step::Read {
                address: 0x10_1000,
                length: 4096,
                offset: 12288
            })
        );
        assert_eq!(io.advance(4096), Some(0));
    }

    #[test]
    fn an_end_of_file_is_an_input_output_error() {
        let mut io = transfer(IoOperation::Read, 4096);
        assert_eq!(io.advance(0), Some(libc::EIO));
        let mut io = transfer(IoOperation::Read, 4096);
        assert_eq!(io.advance(100), Some(libc::EIO));
    }

    #[test]
    fn a_durable_write_is_durable_in_every_piece() {
        let mut io = transfer(IoOperation::Write { durable: true }, 8192);
        assert!(matches!(io.step(), Some(Step::Write { durable: true, .. })));
        assert_eq!(io.advance(4096), None);
        assert!(matches!(
            io.step(),
            Some(Step::Write {
                durable: true,
                length: 4096,
                ..
            })
        ));
        let io = transfer(IoOperation::Write { durable: false }, 4096);
        assert!(matches!(io.step(), Some(Step::Write { durable: false, .. })));
    }

    #[test]
    fn flush_is_a_full_sync_and_its_error_passes_up() {
        let mut io = transfer(IoOperation::Flush, 0);
        assert_eq!(io.step(), Some(Step::Sync));
        assert_eq!(io.advance(-libc::ENOSPC), Some(libc::ENOSPC));
    }

    #[test]
    fn write_zeroes_falls_back_to_writing_zeroes_in_pieces() {
        let mut io = transfer(IoOperation::WriteZeroes { deallocate: true }, 100 * 1024);
        assert_eq!(
            io.step(),
            Some(Step::Fallocate {
                mode: PUNCH,
                offset: 8192,
                length: 100 * 1024
            })
        );
        assert_eq!(io.advance(-libc::EOPNOTSUPP), None);
        assert_eq!(
            io.step(),
            Some(Step::Fallocate {
                mode: ZERO,
                offset: 8192,
                length: 100 * 1024
            })
        );
        assert_eq!(io.advance(-libc::EOPNOTSUPP), None);
        let Some(Step::Write {
            address,
            length: 65536,
            offset: 8192,
            ..
        }) = io.step()
        else {
            panic!("expected a write of zeroes")
        };
        assert_eq!(address % 4096, 0);
        assert_eq!(io.advance(65536), None);
        let Some(Step::Write {
            length: 36864,
            offset: 73728,
            ..
        }) = io.step()
        else {
            panic!("expected the rest")
        };
        assert_eq!(io.advance(36864), Some(0));
    }

    #[test]
    fn write_zeroes_without_deallocate_keeps_the_space() {
        let mut io = transfer(IoOperation::WriteZeroes { deallocate: false }, 4096);
        assert_eq!(
            io.step(),
            Some(Step::Fallocate {
                mode: ZERO,
                offset: 8192,
                length: 4096
            })
        );
        assert_eq!(io.advance(-libc::ENOSPC), Some(libc::ENOSPC));
    }

    #[test]
    fn deallocate_is_advice_but_real_errors_pass_up() {
        let mut io = transfer(IoOperation::Deallocate, 4096);
        assert_eq!(io.advance(-libc::EOPNOTSUPP), Some(0));
        let mut io = transfer(IoOperation::Deallocate, 4096);
        assert_eq!(io.advance(-libc::EIO), Some(libc::EIO));
    }

    #[test]
    fn interruptions_are_repeated_a_bounded_number_of_times() {
        let mut io = transfer(IoOperation::Read, 4096);
        for _ in 0..REPEATS_MAX {
            assert_eq!(io.advance(-libc::EINTR), None);
        }
        assert_eq!(io.advance(-libc::EAGAIN), Some(libc::EAGAIN));
    }

    #[test]
    fn misaligned_memory_goes_through_the_bounce_buffer() {
        let source: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
        let mut bounce = vec![0u8; BOUNCE_BYTES];
        let memory = source.as_ptr() as u64 | 1;
        let request = IoRequest {
            token: 1,
            backing: BackingId(1),
            operation: IoOperation::Write { durable: false },
            offset: 0,
            length: 16384 + 512,
            memory,
        };
        let mut io = Transfer::new(&request, 512, bounce.as_mut_ptr() as u64);
        let skip = (memory - source.as_ptr() as u64) as usize;
        let Some(Step::Write { address, length, .. }) = io.step() else {
            panic!("expected a write")
        };
        assert_eq!((address, length as usize), (bounce.as_ptr() as u64, BOUNCE_BYTES));
        assert_eq!(bounce[..], source[skip..skip + BOUNCE_BYTES]);
        assert_eq!(io.advance(BOUNCE_BYTES as i32), None);
        assert!(matches!(io.step(), Some(Step::Write { length: 512, .. })));
        assert_eq!(bounce[..512], source[skip + BOUNCE_BYTES..skip + BOUNCE_BYTES + 512]);
        assert_eq!(io.advance(512), Some(0));
    }

    #[test]
    fn nothing_to_do_needs_no_system_call() {
        assert_eq!(transfer(IoOperation::Read, 0).step(), None);
        assert_eq!(transfer(IoOperation::WriteZeroes { deallocate: true }, 0).step(), None);
    }
}
