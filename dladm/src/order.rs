//! The order in which links are shown.

use std::cmp::Ordering;

/// Compares names so that `net2` comes before `net10`: runs of digits count by their value, all
/// else byte by byte.
pub fn natural(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a_rest, mut b_rest) = (a, b);
    loop {
        let order = match (a_rest.first(), b_rest.first()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                by_value(take_digits(&mut a_rest), take_digits(&mut b_rest))
            }
            (Some(x), Some(y)) => {
                (a_rest, b_rest) = (&a_rest[1..], &b_rest[1..]);
                x.cmp(y)
            }
            // `net1` and `net01` differ in nothing but zeros, which then decide.
            (None, None) => return a.cmp(b),
            (x, y) => x.is_some().cmp(&y.is_some()),
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn take_digits<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, after) = rest.split_at(len);
    *rest = after;
    digits
}

fn by_value(a: &[u8], b: &[u8]) -> Ordering {
    let (a, b) = (without_zeros(a), without_zeros(b));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_by_value() {
        let sorted = ["", "1", "eth0", "net", "net0", "net01", "net2", "net10", "net10.5", "neta"];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(natural(a.as_bytes(), b.as_bytes()), i.cmp(&j), "{a} {b}");
            }
        }
    }
}
