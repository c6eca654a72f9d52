//! A word of a head that matters to framing, kept while its bytes come.

/// A word of at most [`ROOM`] bytes, with the white space around it forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    bytes: [u8; ROOM],
    length: u8,
    /// White space came behind it.
    is_over: bool,
    /// More came than there is room for, or another word.
    is_other: bool,
}

impl Word {
    pub fn clear(&mut self) {
        (self.length, self.is_over, self.is_other) = (0, false, false);
    }

    /// Adds the bytes of a token, among which there is no white space.
    pub fn extend(&mut self, token: &[u8]) {
        let length = usize::from(self.length);
        match self.bytes.get_mut(length..length + token.len()) {
            _ if token.is_empty() => {}
            Some(room) if !self.is_over => {
                room.copy_from_slice(token);
                self.length += token.len() as u8;
            }
            _ => self.is_other = true,
        }
    }

    pub fn push(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\t') {
            self.is_over = self.length > 0;
        } else if self.is_over || usize::from(self.length) == ROOM {
            self.is_other = true;
        } else {
            self.bytes[usize::from(self.length)] = byte;
            self.length += 1;
        }
    }

    /// How many more bytes there is room for.
    pub fn room(&self) -> usize {
        ROOM - usize::from(self.length)
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The word; `None` when it is longer than anything that is looked for, or is several.
    pub fn get(&self) -> Option<&[u8]> {
        (!self.is_other).then(|| &self.bytes[..usize::from(self.length)])
    }

    /// Whether it is `text`, whatever the case of its letters.
    pub fn is(&self, text: &[u8]) -> bool {
        self.get().is_some_and(|word| word.eq_ignore_ascii_case(text))
    }

    /// Whether `text` could be made of it with more bytes.
    pub fn begins(&self, text: &[u8]) -> bool {
        let length = usize::from(self.length);
        !self.is_other
            && text.len() >= length
            && text[..length].eq_ignore_ascii_case(&self.bytes[..length])
    }
}

/// Longer than `transfer-encoding`, any length, and the methods of the IANA's registry.
pub(super) const ROOM: usize = 24;
