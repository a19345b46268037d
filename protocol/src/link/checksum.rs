//! What tells a letter that was changed from a letter that was meant.
//!
//! Two checks, both over what a person may damage while passing a link on:
//!
//! - [`Letters`] guards the token of a short link. It is a BCH code over GF(32), one symbol a letter,
//!   with four check letters. Its generator is `x^4 + x^3 + 3x^2 + x + 1`; the field is
//!   `GF(2)[a] / (a^5 + a^2 + 1)`, and an element is written as the number with the same bits. The
//!   roots of the generator have order 1025, so that they are a root, its inverse and their 32nd
//!   powers: the ovoid code with parameters `[1025, 1021, 4]`. In a token of up to 1025 letters it
//!   finds **every** change of one, two or three letters, so every exchange of two letters too, and
//!   every change within four letters in a row. It misses one in 2^20 of all other changes.
//! - [`name_check`] guards the name behind the token, which people and chats change in other ways.

/// Letters of the checksum: the degree of the generator.
pub(super) const CHECK_LETTERS: usize = 4;

/// Bits of one letter.
pub(super) const LETTER_BITS: usize = 5;

/// The field's polynomial without its highest term: what a carry out of five bits becomes.
const FIELD: u8 = 0b00101;

/// The generator without its leading 1: the coefficients of x^3, x^2, x and 1.
const GENERATOR: [u8; CHECK_LETTERS] = [1, 3, 1, 1];

/// Where the register starts, so that letters of value zero at the front count. Any value but zero
/// does; a changed format may take another.
const START: [u8; CHECK_LETTERS] = [0, 0, 0, 1];

/// The product of two elements of GF(32).
fn product(mut left: u8, mut right: u8) -> u8 {
    let mut sum = 0;
    while right != 0 {
        if right & 1 == 1 {
            sum ^= left;
        }
        let carry = left & 0b10000 != 0;
        left = (left << 1) & 0b11111;
        if carry {
            left ^= FIELD;
        }
        right >>= 1;
    }
    sum
}

/// The remainder of the letters so far, by the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Letters([u8; CHECK_LETTERS]);

impl Letters {
    /// The check letters that belong behind `letters`.
    pub(super) fn check(letters: &[u8]) -> [u8; CHECK_LETTERS] {
        let mut register = Letters(START);
        for letter in letters.iter().chain(&[0; CHECK_LETTERS]) {
            register.push(*letter);
        }
        register.0
    }

    /// What is left over of a token with its check letters: nothing when it is as it was made.
    fn rest(token: &[u8]) -> Letters {
        let mut register = Letters(START);
        for letter in token {
            register.push(*letter);
        }
        register
    }

    /// Whether a token, check letters included, is as it was made.
    pub(super) fn hold(token: &[u8]) -> bool {
        Letters::rest(token).is_zero()
    }

    /// The one letter that, changed alone, makes the token hold: its place from 0, and its value.
    ///
    /// If one letter was changed, this is it. If more were, it is none but for one in about 230
    /// tokens (31 x 148 single changes, 2^20 remainders).
    pub(super) fn suspect(token: &[u8]) -> Option<(usize, u8)> {
        let rest = Letters::rest(token);
        // A difference in the last letter is the remainder itself; each letter before it has its
        // remainder multiplied by x once more.
        let mut of_one = Letters([0, 0, 0, 1]);
        for (at, letter) in token.iter().enumerate().rev() {
            for difference in 1..1 << LETTER_BITS {
                if of_one.times(difference) == rest {
                    return Some((at, letter ^ difference));
                }
            }
            of_one.push(0);
        }
        None
    }

    /// Takes one more letter.
    fn push(&mut self, letter: u8) {
        let [top, second, third, last] = self.0;
        let [g3, g2, g1, g0] = GENERATOR.map(|factor| product(top, factor));
        self.0 = [second ^ g3, third ^ g2, last ^ g1, letter ^ g0];
    }

    fn times(self, factor: u8) -> Letters {
        Letters(self.0.map(|it| product(it, factor)))
    }

    fn is_zero(self) -> bool {
        self.0 == [0; CHECK_LETTERS]
    }
}

/// Bits of [`name_check`].
pub(super) const NAME_CHECK_BITS: usize = 15;

/// x^10 + x^9 + x^5 + x^4 + x + 1 without its highest term: CRC-10 as ATM has it.
const CRC10: u16 = 0x233;

/// What the token says about the name behind it: the length of the folded name modulo 32 in the
/// upper five bits, its CRC-10 in the lower ten.
///
/// So a name that was cut by fewer than 32 bytes is always found, and so is a changed character of
/// one byte; other changes but for one in 32,768.
pub(super) fn name_check(folded: &str) -> u16 {
    let mut crc = 0_u16;
    for byte in folded.bytes() {
        crc ^= u16::from(byte) << 2;
        for _ in 0..u8::BITS {
            let carry = crc & 0x200 != 0;
            crc = (crc << 1) & 0x3ff;
            if carry {
                crc ^= CRC10;
            }
        }
    }
    let [.., length] = folded.len().to_be_bytes();
    (u16::from(length & 0b11111) << 10) | crc
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    /// Length of the longest token, and more.
    const LONG: usize = 160;

    fn inverse(of: u8) -> u8 {
        (1..32).find(|it| product(of, *it) == 1).unwrap()
    }

    #[test]
    fn the_field_is_one() {
        for one in 1..32 {
            assert_eq!(product(one, inverse(one)), 1);
            assert_eq!(product(one, 1), one);
            for other in 1..32 {
                assert_eq!(product(one, other), product(other, one));
                assert_ne!(product(one, other), 0);
            }
        }
    }

    /// How many of these vectors are linearly independent, by Gauss.
    fn rank(mut rows: Vec<[u8; 4]>) -> usize {
        let mut rank = 0;
        for column in 0..4 {
            let Some(pivot) = (rank..rows.len()).find(|&row| rows[row][column] != 0) else {
                continue;
            };
            rows.swap(rank, pivot);
            let scale = inverse(rows[rank][column]);
            rows[rank] = rows[rank].map(|it| product(it, scale));
            for row in rank + 1..rows.len() {
                let (factor, by) = (rows[row][column], rows[rank]);
                for (value, by) in rows[row].iter_mut().zip(by) {
                    *value ^= product(factor, by);
                }
            }
            rank += 1;
        }
        rank
    }

    #[test]
    fn no_change_of_up_to_three_letters_goes_unseen() {
        let mut columns = vec![Letters([0, 0, 0, 1])];
        for _ in 1..LONG {
            let mut next = *columns.last().unwrap();
            next.push(0);
            columns.push(next);
        }
        // Cyclic: what holds for the last letter and two others holds for any three.
        for second in 1..LONG {
            for third in second + 1..LONG {
                let three = [0, second, third].map(|at| columns[at].0);
                assert_eq!(rank(three.to_vec()), 3, "0, {second}, {third}");
            }
        }
    }

    #[test]
    fn one_changed_letter_is_found_and_named() {
        let mut token: Vec<u8> = (0..148_u8).map(|at| at.wrapping_mul(37) % 32).collect();
        token.extend(Letters::check(&token));
        assert!(Letters::hold(&token));
        for at in 0..token.len() {
            for difference in 1..32 {
                let mut changed = token.clone();
                changed[at] ^= difference;
                assert!(!Letters::hold(&changed));
                assert_eq!(Letters::suspect(&changed), Some((at, token[at])));
            }
        }
    }

    #[test]
    fn a_name_that_was_cut_or_changed_in_one_character_has_another_check() {
        assert_eq!(name_check(""), 0);
        // The CRC catalogue's check value of CRC-10/ATM.
        assert_eq!(name_check("123456789"), (9 << 10) | 0x199);
        let name = "summer holidays 2026.tar";
        for cut in 0..name.len() {
            assert_ne!(name_check(&name[..cut]), name_check(name), "{cut}");
        }
        for at in 0..name.len() {
            for other in b' '..=b'~' {
                let mut changed = name.as_bytes().to_vec();
                changed[at] = other;
                let changed = String::from_utf8(changed).unwrap();
                let same = changed == name;
                assert_eq!(name_check(&changed) == name_check(name), same, "{changed}");
            }
        }
    }
}
