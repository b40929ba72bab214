//! First baseline: `ip -batch`, run by `ip-batch.sh`.
//!
//! The measured time does not include writing the files that the script reads. See [`Script::write`].

use std::{
    fmt::Write,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::network::{Network, PAIR_PREFIX, ROUTE_PREFIX, show_mac};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/w1/ip-batch.sh");

/// Maximum number of veth pairs per `ip` process. `ip` leaves two file descriptors open for each pair.
const LINKS_MAX: usize = 5_000;

/// Directory with the `ip` commands that create and delete workload W1.
pub struct Script {
    folder: PathBuf,
}

impl Script {
    /// Writes the `ip` command files. Their commands create all pairs, but delete only the first `deleted` pairs.
    pub fn write(network: &Network, deleted: usize) -> Self {
        let folder = PathBuf::from("/run/live/ip-batch");
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("remove the files of an earlier size");
        }
        for folder in ["in", "del", "links"].map(|name| folder.join(name)) {
            fs::create_dir_all(&folder).expect("create a directory for the script");
        }
        let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("write a file for the script");
        let lines = |line: &dyn Fn(&String) -> String| network.namespaces.iter().map(line).collect::<String>();
        write("namespaces", lines(&|name| format!("netns add {name}\n")));
        write("names", lines(&|name| format!("{name}\n")));
        let links = network.pairs.iter().map(|pair| {
            let [left, right] = pair.ends.each_ref().map(|end| {
                format!(
                    "name {} netns {} numtxqueues 1 numrxqueues 1",
                    end.name, network.namespaces[end.netns]
                )
            });
            format!("link add {left} type veth peer {right}\n")
        });
        let links: Vec<String> = links.collect();
        for (number, part) in links.chunks(LINKS_MAX).enumerate() {
            write(&format!("links/{number:03}"), part.concat());
        }
        let mut up = vec!["link set lo up\n".to_owned(); network.namespaces.len()];
        let mut rest = vec![String::new(); network.namespaces.len()];
        let mut deletions = vec![String::new(); network.namespaces.len()];
        for (number, pair) in network.pairs.iter().enumerate() {
            // Writing to a `String` cannot fail, so the results are ignored.
            for end in &pair.ends {
                let _ = writeln!(up[end.netns], "link set {} alias {} up", end.name, end.alias);
                let _ = writeln!(rest[end.netns], "address add {}/{PAIR_PREFIX} dev {}", end.address, end.name);
            }
            let [left, right] = &pair.ends;
            let route = format!("{}/{ROUTE_PREFIX} via {} dev {}", pair.route, right.address, left.name);
            let _ = writeln!(rest[left.netns], "route add {route} proto 158");
            let (address, mac) = pair.neighbour;
            let entry = format!("{address} lladdr {} dev {}", show_mac(mac), right.name);
            let _ = writeln!(rest[right.netns], "neighbour add {entry} nud permanent protocol 158");
            if number < deleted {
                let _ = writeln!(deletions[left.netns], "link del {}", left.name);
            }
        }
        for (number, name) in network.namespaces.iter().enumerate() {
            write(&format!("in/{name}"), format!("{}{}", up[number], rest[number]));
            if !deletions[number].is_empty() {
                write(&format!("del/{name}"), std::mem::take(&mut deletions[number]));
            }
        }
        Self { folder }
    }

    /// Creates all objects of W1 with `ip -batch`, and returns how long that took.
    pub fn make(&self) -> Duration {
        self.run("make")
    }

    /// Deletes the pairs that [`Self::write`] selected, and returns how long that took. The pairs are deleted one by one.
    pub fn delete(&self) -> Duration {
        self.run("delete")
    }

    fn run(&self, verb: &str) -> Duration {
        let start = Instant::now();
        let status = Command::new(SCRIPT)
            .arg(verb)
            .arg(&self.folder)
            .stdin(Stdio::null())
            .status()
            .expect("run the script");
        let elapsed = start.elapsed();
        assert!(status.success(), "ip-batch.sh {verb} ended with {status}");
        elapsed
    }
}
