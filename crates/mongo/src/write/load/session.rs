//! Logical sessions whose ids tell to which job a write in the oplog belongs.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};

/// Bytes of a session's id that name the job; the rest is random.
pub(crate) const PREFIX_BYTES: usize = 8;

/// What the ids of all sessions of a job begin with. A function of the job's id alone: a job that is taken over, and
/// the reaper of a dead one, recognise the writes of the attempt before.
pub fn session_prefix(job: &str) -> [u8; PREFIX_BYTES] {
    let hash = digest(&SHA256, format!("ebbtide session of job {job}").as_bytes());
    let mut prefix = [0; PREFIX_BYTES];
    prefix.copy_from_slice(&hash.as_ref()[..PREFIX_BYTES]);
    prefix
}

/// One session: its id and the number of its last retryable write. Only those carry the session into the oplog.
#[derive(Debug)]
pub(in crate::write) struct Session {
    id: [u8; 16],
    number: i64,
}

impl Session {
    pub(in crate::write) fn new(job: &str) -> Self {
        let mut id = [0; 16];
        id[..PREFIX_BYTES].copy_from_slice(&session_prefix(job));
        // A repeated id would only make the server refuse an old transaction number, and the load fail loudly.
        rand::fill(&mut id[PREFIX_BYTES..]).ok();
        Self { id, number: 0 }
    }

    /// For the next write.
    pub(in crate::write) fn next(&mut self) -> ([u8; 16], i64) {
        self.number += 1;
        (self.id, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_a_job_share_their_beginning_and_nothing_else() {
        let mut one = Session::new("5f4007f327a3bd7b6f4103c5");
        let mut two = Session::new("5f4007f327a3bd7b6f4103c5");
        let ((first, 1), (second, 1)) = (one.next(), two.next()) else { panic!("numbers start at one") };
        assert_eq!(first[..PREFIX_BYTES], second[..PREFIX_BYTES]);
        assert_eq!(first[..PREFIX_BYTES], session_prefix("5f4007f327a3bd7b6f4103c5"));
        assert_ne!(first, second);
        assert_eq!(one.next(), (first, 2));
        assert_ne!(session_prefix("5f4007f327a3bd7b6f4103c6"), session_prefix("5f4007f327a3bd7b6f4103c5"));
    }
}
