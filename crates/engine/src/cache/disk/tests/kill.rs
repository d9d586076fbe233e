//! A process that is killed while it writes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

const FOLDER: &str = "TIDEMILL_TEST_KILL_FOLDER";

/// One conversation of the child's.
fn conversation(seed: u32) -> Vec<Key> {
    tokens(seed * 100_000, 200)
}

/// Not a test of its own: the child of the test below. It writes until it is killed.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let mut tier = DiskTier::open(&settings(Path::new(&folder))).unwrap();
    println!("\nwriting");
    for seed in 0.. {
        let all = conversation(seed % 50);
        for count in [30, 70, 130, 200] {
            put(&mut tier, &all[..count]);
        }
        if seed % 50 == 49 {
            // Begin again from nothing.
            files_in(&settings(Path::new(&folder)))
                .iter()
                .for_each(|file| {
                    std::fs::remove_file(file).ok();
                });
        }
    }
}

#[test]
fn killed_writers_leave_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let name = "cache::disk::tests::kill::child";
    let mut found = 0;
    for round in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("writing")));
        std::thread::sleep(Duration::from_millis(10 + 7 * round));
        child.kill().unwrap();
        child.wait().unwrap();

        // Reading compares every byte with what was to be stored.
        let mut tier = DiskTier::open(&settings(folder.path())).unwrap();
        assert_eq!(tier.stats().unusable, 0, "whole files or none");
        for seed in 0..50 {
            found += get(&mut tier, &conversation(seed));
        }
        assert_eq!(tier.stats().unusable, 0);
        let prompt = conversation(1000 + round as u32);
        put(&mut tier, &prompt).unwrap();
        assert_eq!(get(&mut tier, &prompt), prompt.len());
    }
    assert!(found > 0, "what was written before the kill is there");
}
