//! The client's side of HTTP digest authentication (RFC 2617: MD5, `qop=auth`).

use md5::{Digest, Md5};

/// A server's challenge, and how often it has been answered.
#[derive(Debug, Clone)]
pub(crate) struct Challenge {
    realm: String,
    nonce: String,
    count: u32,
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; `None` when it is no digest challenge.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let parameters = header.strip_prefix("Digest ")?;
        let value = |name: &str| {
            parameters.split(", ").find_map(|part| {
                let (key, value) = part.split_once('=')?;
                (key == name).then(|| value.trim_matches('"').to_owned())
            })
        };
        Some(Self { realm: value("realm")?, nonce: value("nonce")?, count: 0 })
    }

    /// The `Authorization` header of the next request under this challenge.
    pub(crate) fn answer(
        &mut self,
        user: &str,
        password: &str,
        method: &str,
        target: &str,
        cnonce: &str,
    ) -> String {
        self.count += 1;
        let Self { realm, nonce, count } = self;
        let ha1 = hash(&format!("{user}:{realm}:{password}"));
        let ha2 = hash(&format!("{method}:{target}"));
        let response = hash(&format!("{ha1}:{nonce}:{count:08x}:{cnonce}:auth:{ha2}"));
        format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{target}\", cnonce=\"{cnonce}\", \
             nc={count:08x}, qop=auth, response=\"{response}\", algorithm=MD5"
        )
    }
}

fn hash(text: &str) -> String {
    hex::encode(Md5::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 2617, section 3.5.
    #[test]
    fn the_answer_is_that_of_the_standard() {
        let mut challenge = Challenge {
            realm: "testrealm@host.com".to_owned(),
            nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093".to_owned(),
            count: 0,
        };
        let header = challenge.answer("Mufasa", "Circle Of Life", "GET", "/dir/index.html", "0a4f113b");
        assert!(header.contains("response=\"6629fae49393a05397450978507c4ef1\""), "{header}");
    }

    #[test]
    fn the_server_s_challenge_is_understood() {
        let challenge = Challenge::parse(
            "Digest realm=\"MMS Public API\", domain=\"\", nonce=\"abc=\", algorithm=MD5, qop=\"auth\", stale=false",
        )
        .map(|c| (c.realm, c.nonce));
        assert_eq!(challenge, Some(("MMS Public API".to_owned(), "abc=".to_owned())));
        assert!(Challenge::parse("Basic realm=\"x\"").is_none());
    }
}
