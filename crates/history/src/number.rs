//! Numbers of all four BSON types on one scale.
//!
//! MongoDB compares int, long, double and decimal by value, so they need one encoding: sign, decimal
//! exponent, decimal digits. Every double and every decimal is a finite decimal expansion, so nothing is
//! rounded.

/// `-bias` for exponents: the largest magnitude is that of Decimal128, about 10^6145.
const EXPONENT_BIAS: i32 = 0x4000;
const DECIMAL128_EXPONENT_BIAS: i32 = 6176;
const DECIMAL128_COEFFICIENT_MAX: u128 = 10u128.pow(34) - 1;
/// A double has 767 significant digits at most.
const DOUBLE_DIGITS: usize = 770;

const NAN: u8 = 1;
const MINUS_INFINITY: u8 = 2;
const NEGATIVE: u8 = 3;
const ZERO: u8 = 4;
const POSITIVE: u8 = 5;
const PLUS_INFINITY: u8 = 6;

/// Appends the encoding of an int or a long.
pub(crate) fn push_integer(out: &mut Vec<u8>, value: i64) {
    let digits = value.unsigned_abs().to_string();
    push_finite(out, value < 0, digits.as_bytes(), digits.len() as i32);
}

/// Appends the encoding of a double.
pub(crate) fn push_double(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.push(NAN);
    } else if value.is_infinite() {
        out.push(if value < 0.0 { MINUS_INFINITY } else { PLUS_INFINITY });
    } else if value.fract() == 0.0 && value.abs() < 9e18 {
        push_integer(out, value as i64);
    } else {
        // With an explicit precision Rust prints the exact expansion, not the shortest one.
        let text = format!("{:.DOUBLE_DIGITS$e}", value.abs());
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
        push_finite(out, value < 0.0, &digits, exponent.parse::<i32>().unwrap_or(0) + 1);
    }
}

/// Appends the encoding of a Decimal128 in its binary integer decimal form, sixteen little-endian bytes.
pub(crate) fn push_decimal(out: &mut Vec<u8>, bytes: [u8; 16]) {
    let bits = u128::from_le_bytes(bytes);
    let negative = bits >> 127 == 1;
    let combination = (bits >> 122) as u8 & 0x1F;
    if combination == 0x1F {
        out.push(NAN);
        return;
    }
    if combination == 0x1E {
        out.push(if negative { MINUS_INFINITY } else { PLUS_INFINITY });
        return;
    }
    // The form with an implicit leading 100 can only hold coefficients above the maximum, which count as zero.
    let large = combination >> 3 == 0b11;
    let coefficient = if large { 0 } else { bits & ((1u128 << 113) - 1) };
    let exponent = ((bits >> 113) as i32 & 0x3FFF) - DECIMAL128_EXPONENT_BIAS;
    if coefficient > DECIMAL128_COEFFICIENT_MAX {
        push_finite(out, negative, b"0", 0);
        return;
    }
    let digits = coefficient.to_string();
    push_finite(out, negative, digits.as_bytes(), digits.len() as i32 + exponent);
}

/// Appends 0.DIGITS × 10^`exponent`. Digits may have zeros at either end.
fn push_finite(out: &mut Vec<u8>, negative: bool, digits: &[u8], exponent: i32) {
    let Some(first) = digits.iter().position(|&d| d != b'0') else {
        out.push(ZERO);
        return;
    };
    let last = digits.iter().rposition(|&d| d != b'0').unwrap_or(first);
    let exponent = exponent - first as i32;
    let start = out.len() + 1;
    out.push(if negative { NEGATIVE } else { POSITIVE });
    out.extend(((exponent + EXPONENT_BIAS) as u16).to_be_bytes());
    // Two digits a byte, from 1, so that the end (0) sorts a shorter number first.
    for pair in digits[first..=last].chunks(2) {
        let low = pair.get(1).map_or(0, |d| d - b'0');
        out.push((pair[0] - b'0') * 10 + low + 1);
    }
    out.push(0);
    if negative {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}
