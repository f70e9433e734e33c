#![allow(clippy::unwrap_used)]
use ebbtide_vault::*;
use history::{Cut, Cutter, SortKey, raw};
use std::time::Instant;
#[tokio::test]
async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let loc = Location::parse(dir.path().to_str().unwrap(), S3Options::default()).unwrap();
    let vault = Vault::create_or_open(&loc, &MasterKey::generate()).await.unwrap();
    for name in ["orders", "events", "blobs", "users", "metrics"] {
        let path = walk(name);
        let data = std::fs::read(path).unwrap();
        let mut docs: Vec<(SortKey, &[u8])> = raw::documents(&data).map(|d| { let d = d.unwrap(); (SortKey::of_document(d).unwrap(), d) }).collect();
        docs.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut push, mut finish, mut seal, mut put, mut read) = (0., 0., 0., 0., 0.);
        let mut stored = 0u64;
        let mut cutter = Cutter::new();
        let mut segs: Vec<Vec<(&[u8], &[u8])>> = vec![vec![]];
        for (k, d) in &docs {
            if cutter.offer(k.as_bytes(), d.len()) != Cut::Stay && !segs.last().unwrap().is_empty() { segs.push(vec![]); }
            segs.last_mut().unwrap().push((k.as_bytes(), d));
        }
        let mut buf = Vec::new();
        for s in &segs {
            let t = Instant::now();
            let mut b = SegmentBuilder::with_buffer(Order::Sorted, buf);
            for (k, d) in s { b.push(k, d); }
            push += t.elapsed().as_secs_f64(); let t = Instant::now();
            let draft = b.finish(&vault).unwrap();
            finish += t.elapsed().as_secs_f64(); let t = Instant::now();
            let sealed = draft.seal(&vault).unwrap();
            seal += t.elapsed().as_secs_f64(); let t = Instant::now();
            stored += vault.put(&sealed).await.unwrap();
            put += t.elapsed().as_secs_f64(); let t = Instant::now();
            vault.read_segment(&draft.entry).await.unwrap();
            read += t.elapsed().as_secs_f64();
            buf = draft.into_buffer();
        }
        let mb = data.len() as f64 / 1e6;
        println!("{name}: {mb:.0} MB -> {:.1} MB, {} segments; MB/s: push {:.0} finish {:.0} seal {:.0} put {:.0} read {:.0}", stored as f64 / 1e6, segs.len(), mb/push, mb/finish, mb/seal, mb/put, mb/read);
    }
}
fn walk(name: &str) -> std::path::PathBuf {
    let mut p = vec![std::path::PathBuf::from("/tmp/vds")];
    while let Some(x) = p.pop() {
        if x.is_dir() { p.extend(std::fs::read_dir(x).unwrap().map(|e| e.unwrap().path())); }
        else if x.file_name().unwrap().to_str().unwrap() == format!("{name}.bson") { return x; }
    }
    panic!()
}
