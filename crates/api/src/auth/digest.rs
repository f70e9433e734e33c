//! HTTP digest (RFC 2617, MD5, `qop=auth`) as Atlas speaks it: the challenge byte for byte, the parser
//! lenient about quoting, since clients differ, and strict about everything else.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// The realm of Atlas's public API.
pub const REALM: &str = "MMS Public API";

/// Longest header looked at: it repeats the request's target, which may fill a whole head.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// More fields than RFC 2617 and RFC 7616 have together.
const FIELDS_MAX: usize = 24;

/// The challenge. Nothing may be added: the Go client fails on any directive it doesn't know.
pub(crate) fn challenge(nonce: &str, stale: bool) -> String {
    format!(r#"Digest realm="{REALM}", domain="", nonce="{nonce}", algorithm=MD5, qop="auth", stale={stale}"#)
}

/// `MD5(username:realm:password)`, which is all that the server keeps of a private key (sealed).
pub fn ha1(public_key: &str, private_key: &str) -> [u8; 16] {
    md5(&[public_key.as_bytes(), REALM.as_bytes(), private_key.as_bytes()])
}

/// An `Authorization: Digest …` header that has everything it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) nonce: String,
    pub(crate) uri: String,
    pub(crate) nc: u32,
    nc_text: String,
    cnonce: String,
    response: [u8; 16],
}

impl Credentials {
    /// Parses what follows `Digest `; none when it is not an answer to our challenge.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        if header.len() > HEADER_BYTES_MAX {
            return None;
        }
        let mut fields = Fields::read(header)?;
        let algorithm = fields.take("algorithm").unwrap_or_else(|| "MD5".to_owned());
        if !algorithm.eq_ignore_ascii_case("MD5")
            || fields.take("qop")? != "auth"
            || fields.take("realm")? != REALM
        {
            return None;
        }
        let nc_text = fields.take("nc")?;
        if nc_text.len() != 8 || !nc_text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut response = [0_u8; 16];
        hex::decode_to_slice(fields.take("response")?, &mut response).ok()?;
        Some(Self {
            username: fields.take("username")?,
            nonce: fields.take("nonce")?,
            uri: fields.take("uri")?,
            nc: u32::from_str_radix(&nc_text, 16).ok()?,
            nc_text,
            cnonce: fields.take("cnonce")?,
            response,
        })
    }

    /// Whether the response is right for this method and HA1. Takes the same time whatever the answer.
    pub(crate) fn proves(&self, method: &str, ha1: &[u8; 16]) -> bool {
        let ha2 = hex::encode(md5(&[method.as_bytes(), self.uri.as_bytes()]));
        let ha1 = hex::encode(ha1);
        let expected = md5(&[
            ha1.as_bytes(),
            self.nonce.as_bytes(),
            self.nc_text.as_bytes(),
            self.cnonce.as_bytes(),
            b"auth",
            ha2.as_bytes(),
        ]);
        expected.ct_eq(&self.response).into()
    }
}

/// MD5 over the parts joined by colons.
fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Md5::new();
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            hasher.update(b":");
        }
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// `name=value` pairs, quoted or not; a name given twice makes the header invalid.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn read(header: &str) -> Option<Self> {
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut rest = header.trim_matches([' ', '\t', ',']);
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=')?;
            let name = name.trim().to_ascii_lowercase();
            let (value, after) = read_value(after.trim_start())?;
            let known = fields.iter().any(|(other, _)| *other == name);
            if known || name.is_empty() || fields.len() == FIELDS_MAX {
                return None;
            }
            fields.push((name, value));
            let after = after.trim_start_matches([' ', '\t']);
            rest = match after.strip_prefix(',') {
                Some(more) => more.trim_start_matches([' ', '\t', ',']),
                None if after.is_empty() => after,
                None => return None,
            };
        }
        Some(Self(fields))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// A token or a quoted string, and what follows it.
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn d2_the_challenge_is_atlass_byte_for_byte() {
        assert_eq!(
            challenge("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", false),
            "Digest realm=\"MMS Public API\", domain=\"\", nonce=\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", algorithm=MD5, qop=\"auth\", stale=false"
        );
        // The Go client splits at ", " and knows exactly these.
        let challenge = challenge("n", true);
        let names: Vec<_> =
            challenge["Digest ".len()..].split(", ").map(|part| part.split_once('=').unwrap().0).collect();
        assert_eq!(names, ["realm", "domain", "nonce", "algorithm", "qop", "stale"]);
    }

    #[test]
    fn the_example_of_rfc_2617_is_right() {
        // The RFC's own vector, but for the realm, which is part of HA1 only.
        let credentials = Credentials {
            username: "Mufasa".into(),
            nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093".into(),
            uri: "/dir/index.html".into(),
            nc: 1,
            nc_text: "00000001".into(),
            cnonce: "0a4f113b".into(),
            response: hex::decode("6629fae49393a05397450978507c4ef1").unwrap().try_into().unwrap(),
        };
        let ha1 = md5(&[b"Mufasa", b"testrealm@host.com", b"Circle Of Life"]);
        assert!(credentials.proves("GET", &ha1));
        assert!(!credentials.proves("POST", &ha1));
    }

    const CURL: &str = r#"username="abcdefgh", realm="MMS Public API", nonce="N", uri="/api/atlas/v2/?a=b,c", cnonce="Zm9v", nc=00000001, qop=auth, response="00112233445566778899aabbccddeeff", algorithm=MD5"#;
    const GO: &str = r#"username="abcdefgh", realm="MMS Public API", nonce="N", uri="/api/atlas/v2/?a=b,c", response="00112233445566778899aabbccddeeff", algorithm="MD5", cnonce="Zm9v", qop=auth, nc=00000001"#;

    #[test]
    fn curl_and_go_say_the_same() {
        let curl = Credentials::parse(CURL).unwrap();
        assert_eq!(curl.uri, "/api/atlas/v2/?a=b,c");
        assert_eq!(Some(curl), Credentials::parse(GO));
    }

    #[test]
    fn what_lacks_something_or_says_it_twice_is_refused() {
        for name in ["username", "realm", "nonce", "uri", "cnonce", "nc", "qop", "response"] {
            assert!(Credentials::parse(&CURL.replace(&format!("{name}="), "x=")).is_none(), "{name}");
        }
        assert!(Credentials::parse(&format!("{CURL}, username=\"other\"")).is_none());
        assert!(Credentials::parse(&CURL.replace("algorithm=MD5", "algorithm=SHA-256")).is_none());
        assert!(Credentials::parse(&CURL.replace("qop=auth", "qop=auth-int")).is_none());
        assert!(Credentials::parse(&CURL.replace("nc=00000001", "nc=+0000001")).is_none());
        assert!(Credentials::parse("").is_none());
        assert!(Credentials::parse("username=\"a").is_none());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC*") {
            let _ = Credentials::parse(&text);
        }

        #[test]
        fn nothing_like_a_header_makes_it_panic(text in r#"[a-z=", \\\t]{0,80}"#, cut in 0_usize..200) {
            let _ = Credentials::parse(&text);
            let _ = Credentials::parse(CURL.get(..cut).unwrap_or(CURL));
            let _ = Credentials::parse(&format!("{CURL}{text}"));
        }

        #[test]
        fn an_answer_made_with_the_key_is_taken_and_no_other(user in "[a-z]{8}", key in "[a-z0-9-]{36}", uri in "/[a-z/?=&%]{0,40}") {
            let ha1 = ha1(&user, &key);
            let ha2 = hex::encode(md5(&[b"GET", uri.as_bytes()]));
            let response = md5(&[hex::encode(ha1).as_bytes(), b"N", b"0000000a", b"c", b"auth", ha2.as_bytes()]);
            let header = format!(r#"username="{user}", realm="{REALM}", nonce="N", uri="{uri}", cnonce="c", nc=0000000a, qop=auth, response="{}""#, hex::encode(response));
            let credentials = Credentials::parse(&header).unwrap();
            prop_assert!(credentials.proves("GET", &ha1));
            prop_assert!(!credentials.proves("GET", &super::ha1(&user, "other")));
            prop_assert_eq!(credentials.nc, 10);
        }
    }
}
