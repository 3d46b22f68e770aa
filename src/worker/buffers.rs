//! Buffers between uses: a connection that waits holds none.

use std::cell::{Cell, RefCell};

use crate::http1::head::{Head, HeadStorage};

/// Size of a fresh buffer: a head, and mostly the whole message.
pub const BUFFER_BYTES: usize = 8 * 1024;

/// Bodies that keep filling their buffer get larger ones, up to this.
pub const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Buffers that grew beyond this are large.
const LARGE_BYTES_MIN: usize = 32 * 1024;

/// Unused buffers that a worker keeps.
const KEPT_MAX: usize = 256;

/// Large ones among them: enough for a load of large bodies, and 4 MiB at most.
const KEPT_LARGE_MAX: usize = 16;

/// Heads with more fields than this give their memory back to the allocator.
const KEPT_FIELDS_MAX: usize = 128;

/// A worker's unused buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    bytes: RefCell<Vec<Vec<u8>>>,
    large: Cell<usize>,
    heads: RefCell<Vec<HeadStorage>>,
}

impl Buffers {
    /// An empty buffer with room for [`BUFFER_BYTES`] at least.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        match self.bytes.borrow_mut().pop() {
            Some(buffer) => {
                if buffer.capacity() > LARGE_BYTES_MIN {
                    self.large.set(self.large.get() - 1);
                }
                buffer
            }
            None => Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// Takes a buffer back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut free = self.bytes.borrow_mut();
        let size = buffer.capacity();
        if !(BUFFER_BYTES..=BUFFER_BYTES_MAX).contains(&size) || free.len() >= KEPT_MAX {
            return;
        }
        if size > LARGE_BYTES_MIN {
            if self.large.get() == KEPT_LARGE_MAX {
                return;
            }
            self.large.set(self.large.get() + 1);
        }
        buffer.clear();
        free.push(buffer);
    }

    /// Room for the fields of a head.
    #[must_use]
    pub fn take_head(&self) -> HeadStorage {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a head apart that is done with.
    pub fn give_head(&self, head: Head) {
        let (bytes, _end, storage) = head.recycle();
        self.give(bytes);
        let mut free = self.heads.borrow_mut();
        if storage.fields_capacity() <= KEPT_FIELDS_MAX && free.len() < KEPT_MAX {
            free.push(storage);
        }
    }
}

/// Makes room for the next read: a buffer that the last read filled gets twice the room.
pub fn make_room(buffer: &mut Vec<u8>) {
    if buffer.len() == buffer.capacity() {
        let more = buffer.capacity().clamp(BUFFER_BYTES, BUFFER_BYTES_MAX);
        buffer.reserve_exact(more);
    }
}
