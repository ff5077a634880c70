//! From bytes to a point on the ring, and the scores that order servers for an arc.
//!
//! Every client must come to the same answer, so nothing here may depend on the platform:
//! integer arithmetic, and IEEE additions, multiplications and divisions only. The C library's
//! `ln` is not among them: its last bit differs between systems.

use sha1::{Digest, Sha1};

/// The upper 64 bits of the key's SHA-1, big-endian: "hello" gives `0xaaf4c61ddcc5e8a2`.
#[inline]
pub fn point_of(key: &[u8]) -> u64 {
    let digest = Sha1::digest(key);
    let mut high = [0; 8];
    high.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(high)
}

/// Mixes all 64 bits into all 64 (the finaliser of SplitMix64, by Vigna).
#[inline]
pub(crate) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A pseudo-random score of a server (by the point of its name) for something with a number.
#[inline]
pub(crate) fn score(server: u64, number: u64) -> u64 {
    mix(server ^ mix(number))
}

/// Weighted rendezvous rank: the smallest wins, and each server wins in proportion to its
/// weight (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
/// A weight of 0 ranks behind everything.
#[inline]
pub(crate) fn weighted_rank(score: u64, weight: u32) -> f64 {
    if weight == 0 {
        return f64::INFINITY;
    }
    // The score as a number in (0, 1); 53 bits are exact in an f64.
    let unit = ((score >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -natural_log(unit) / f64::from(weight)
}

/// Natural logarithm of a normal positive number, the same on every platform, to about 1e-9:
/// `2 artanh((m-1)/(m+1))` of the mantissa plus the exponent.
fn natural_log(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let s2 = s * s;
    let mut sum = 0.0;
    for odd in (1..=17).rev().step_by(2) {
        sum = sum * s2 + 1.0 / f64::from(odd);
    }
    2.0 * s * sum + exponent as f64 * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_is_where_every_implementation_finds_it() {
        assert_eq!(point_of(b"hello"), 0xaaf4_c61d_dcc5_e8a2);
        assert_eq!(point_of(b"hello") % 4096, 2210);
    }

    #[test]
    fn logarithm_is_close_to_the_library_s() {
        let mut x = 1e-16;
        while x < 1e6 {
            assert!((natural_log(x) - x.ln()).abs() < 1e-8, "{x}");
            x *= 1.37;
        }
    }

    #[test]
    fn weighted_ranks_win_in_proportion() {
        let wins = (0..30_000u64).filter(|i| weighted_rank(mix(*i), 3) < weighted_rank(mix(!i), 1));
        let share = wins.count() as f64 / 30_000.0;
        assert!((share - 0.75).abs() < 0.01, "{share}");
    }
}
