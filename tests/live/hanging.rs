//! Live tests of a file system that does not respond. Only values that refer to a file on it may be delayed.

use std::{fs, os::fd::AsRawFd, os::unix::fs::OpenOptionsExt, path::Path};

use nix::{
    fcntl::OFlag,
    mount::{MntFlags, MsFlags},
};

use crate::{
    on_both_stores,
    support::{
        bench::{Bench, Revisions},
        command,
        config::{Config, Interface, Reference},
    },
};

/// Mount point of the file system.
const MOUNT: &str = "/run/remote";
/// Namespace file on the file system.
const FILE: &str = "/run/remote/net";

/// Mounted FUSE file system whose server never answers. Dropping the server ends the hanging requests.
struct DeadFileSystem(#[allow(dead_code, reason = "the kernel waits for responses as long as it is open")] fs::File);

impl DeadFileSystem {
    fn mount() -> Self {
        let server = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_CLOEXEC.bits())
            .open("/dev/fuse")
            .expect("/dev/fuse: the kernel has FUSE");
        fs::create_dir_all(MOUNT).expect("create the mount point");
        // Mount options from fuse(4): the server's descriptor, and a directory as the root.
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        nix::mount::mount(
            Some("remote"),
            MOUNT,
            Some("fuse"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(options.as_str()),
        )
        .expect("mount FUSE");
        Self(server)
    }

    fn replace_by_a_namespace(self) {
        drop(self);
        nix::mount::umount2(MOUNT, MntFlags::MNT_DETACH).expect("unmount FUSE");
        command::ip("netns add remote");
        fs::write(FILE, "").expect("create the file to mount on");
        nix::mount::mount(Some("/run/netns/remote"), FILE, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind mount the namespace");
        assert!(Path::new(FILE).exists());
    }
}

/// Returns a veth pair with one end in the namespace `far`.
fn pair(name: &str, far: Reference) -> Config {
    let peer = format!("{name}-peer");
    Config {
        interfaces: vec![
            Interface::veth(name, &peer, Reference::named("near")).host_name(name),
            Interface::veth(&peer, name, far).host_name(&peer),
        ],
        ..Config::default()
    }
}

/// Puts several veth pairs, each in one transaction, and waits after each transaction until both ends are CONFIGURED. Returns all
/// pairs, including those in `before`.
async fn make_pairs(bench: &Bench, before: Config, names: &[&str]) -> Config {
    let mut all = before;
    for name in names {
        let pair = pair(name, Reference::named("far"));
        let revisions = bench.put_together(&pair).await;
        bench.until_configured(&revisions).await;
        all.interfaces.extend(pair.interfaces);
    }
    bench.check(&all);
    all
}

async fn hanging_file_system_delays_only_its_own_values(mut bench: Bench) {
    let file_system = DeadFileSystem::mount();
    bench.start_agent().await;
    let hanging = pair("slow", Reference::File(FILE.to_owned()));
    let revisions: Revisions = bench.put_together(&hanging).await;
    // Configure other veth pairs while the first access to the path hangs.
    let others = make_pairs(&bench, Config::default(), &["a", "b", "c"]).await;
    let waiting = bench
        .until("the status names the hanging path", |publication| {
            let status = publication.of("linux/interfaces/v2/interface/slow-peer");
            status.is_some_and(|status| status.explanation().contains("has not responded for 5 s"))
        })
        .await;
    assert_ne!(waiting.state("linux/interfaces/v2/interface/slow-peer"), "CONFIGURED");
    let mut all = make_pairs(&bench, others, &["d", "e", "f"]).await;
    file_system.replace_by_a_namespace();
    bench.until_configured(&revisions).await;
    all.interfaces.extend(hanging.interfaces);
    bench.check(&all);
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.stop_agent().await;
}
on_both_stores!(hanging_file_system_delays_only_its_own_values);

/// The agent must be able to stop while access to a path hangs and values are waiting for that path.
async fn agent_stops_while_a_file_system_hangs(mut bench: Bench) {
    let _file_system = DeadFileSystem::mount();
    bench.start_agent().await;
    bench.put_together(&pair("slow", Reference::File(FILE.to_owned()))).await;
    make_pairs(&bench, Config::default(), &["a"]).await;
    bench.stop_agent().await;
}
on_both_stores!(agent_stops_while_a_file_system_hangs);
