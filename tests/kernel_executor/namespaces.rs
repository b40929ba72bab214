//! Kernel tests of namespaces: opening, creating, verifying, closing and watching.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use netns_kernel::{
    AddressDetection, ExecutorConfig, Failure, FailureKind, Guard, KernelOp, LinkChanges, NamedTarget, NamespaceRef, NetnsId, ProcessStat,
    Reply, Snapshot, open_files::OpenFiles, process_namespaces,
};

use crate::world::*;

fn by_name(name: &str) -> NamespaceRef {
    NamespaceRef::Named(name.to_owned())
}

fn close(reference: NamespaceRef, netns: NetnsId, remove: bool, forget: bool) -> KernelOp {
    KernelOp::CloseNamespace {
        reference,
        netns,
        remove_if_marked: remove.then(|| MARK.to_owned()),
        forget,
    }
}

/// The name must not appear before `lo` is up and has its alias. Otherwise, other programs could see an incomplete namespace.
#[test]
fn missing_namespace_is_created_as_by_ip_netns_add() {
    in_private_namespaces(|world| {
        let (netns, created, contents) = world.try_open(by_name("fresh")).expect("opened");
        assert!(created);
        assert_eq!(run("ip", "netns list").trim(), "fresh");
        assert_eq!(fs::metadata(named("fresh")).expect("a file").ino(), netns.0);
        assert_eq!(fs::metadata("/run/netns").expect("a directory").permissions().mode() & 0o777, 0o755);
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts");
        // The last line describes the topmost mount. An earlier line can describe a mount that `ip netns` has made on this
        // machine.
        let line = mounts
            .lines()
            .rfind(|line| line.contains(" /run/netns "))
            .expect("the directory is a mount point");
        assert!(line.contains("shared:"), "{line}");
        let lo = &ip("-n fresh link show dev lo")[0];
        assert_eq!(lo["ifalias"], MARK);
        assert!(lo["flags"].as_array().expect("flags").contains(&"UP".into()));
        assert_eq!(contents.links.len(), 1);

        let (again, created, _) = world.try_open(by_name("fresh")).expect("opened");
        assert_eq!((again, created), (netns, false));
        run("ip", "netns del fresh");
        assert_eq!(world.dump(netns).links.len(), 1, "the open namespace must outlive its name");
    });
}

#[test]
fn namespace_of_ip_netns_add_is_opened_without_a_mark() {
    in_private_namespaces(|world| {
        run("ip", "netns add theirs");
        let (netns, created, contents) = world.try_open(by_name("theirs")).expect("opened");
        assert!(!created);
        assert_eq!(contents.links[0].alias, "");
        assert!(!contents.links[0].up);
        world.op(close(by_name("theirs"), netns, true, true));
        assert_eq!(run("ip", "netns list").trim(), "theirs", "a foreign namespace must stay");
    });
}

#[test]
fn created_namespace_is_removed_only_on_request_and_only_if_same() {
    in_private_namespaces(|world| {
        let netns = world.open("ours");
        world.op(close(by_name("ours"), netns, false, false));
        assert_eq!(run("ip", "netns list").trim(), "ours");
        let netns = world.open("ours");
        world.op(close(by_name("ours"), netns, true, false));
        assert_eq!(run("ip", "netns list").trim(), "");
        assert!(!named("ours").exists());
        world.op(close(by_name("ours"), netns, true, false));

        // The name now refers to another namespace, so closing the old one must not remove the name.
        let netns = world.open("ours");
        run("ip", "netns del ours");
        run("ip", "netns add ours");
        world.op(close(by_name("ours"), netns, true, false));
        assert_eq!(run("ip", "netns list").trim(), "ours");
    });
}

#[test]
fn two_references_to_one_namespace_share_it() {
    in_private_namespaces(|world| {
        let netns = world.open("one");
        let (same, _, _) = world.try_open(NamespaceRef::File(named("one"))).expect("opened");
        assert_eq!(netns, same);
        for _ in 0..2 {
            world.op(close(by_name("one"), netns, false, true));
            assert_eq!(world.dump(netns).links.len(), 1, "the other reference must keep the namespace open");
        }
        world.op(close(NamespaceRef::File(named("one")), netns, false, false));
        assert!(world.try_op(KernelOp::DumpNamespace { netns }).is_err());
        // Closing a closed namespace succeeds, and so does deleting a link in it.
        world.op(close(by_name("one"), netns, false, false));
        world.op(delete_link(netns, "x"));
    });
}

#[test]
fn empty_file_and_file_left_by_a_crash_become_a_namespace() {
    in_private_namespaces(|world| {
        world.open("other");
        for (name, content) in [("stale", String::new()), ("leftover", format!("netns-agent {MARK}\n"))] {
            fs::write(named(name), content).expect("written");
            let (netns, created, _) = world.try_open(by_name(name)).expect("opened");
            assert!(created, "{name}");
            assert_eq!(fs::metadata(named(name)).expect("a file").ino(), netns.0);
            assert_eq!(ip(&format!("-n {name} link show dev lo"))[0]["ifalias"], MARK);
            world.op(close(by_name(name), netns, true, false));
            assert!(!named(name).exists(), "{name} must be removed with its namespace");
        }
    });
}

#[test]
fn file_with_content_is_rejected_and_untouched() {
    in_private_namespaces(|world| {
        world.open("other");
        fs::write(named("notes"), "somebody's text").expect("written");
        symlink(named("notes"), named("link")).expect("linked");
        for (name, problem) in [("notes", "a regular file with content"), ("link", "a symbolic link to")] {
            let failure = world.try_open(by_name(name)).expect_err("it must be refused");
            assert_eq!(failure.kind, FailureKind::Unusable, "{failure:?}");
            assert!(
                failure.message.contains(problem) && failure.message.contains("use another name"),
                "{}",
                failure.message
            );
        }
        assert_eq!(fs::read_to_string(named("notes")).expect("text"), "somebody's text");
        assert!(fs::symlink_metadata(named("link")).expect("it exists").is_symlink());
        assert!(
            !run("findmnt", "-rno TARGET").contains("notes"),
            "the file must not be a mount point"
        );
    });
}

#[test]
fn dangling_link_is_unavailable_and_waits_for_its_target() {
    in_private_namespaces(|world| {
        world.open("other");
        symlink("/proc/999999999/ns/net", named("web")).expect("linked");
        let failure = world.try_open(by_name("web")).expect_err("it leads nowhere");
        assert_eq!(failure.kind, FailureKind::Unavailable, "{failure:?}");
        assert!(
            failure.message.contains("symbolic link to /proc/999999999/ns/net"),
            "{}",
            failure.message
        );
        fs::remove_file(named("web")).expect("removed");
        symlink(named("other"), named("web")).expect("linked");
        let (netns, created, _) = world.try_open(by_name("web")).expect("opened");
        assert!(!created);
        // Closing a reference through a symbolic link must not unmount the name to which the link points.
        world.op(close(by_name("web"), netns, true, false));
        assert_eq!(fs::metadata(named("other")).expect("mounted").ino(), netns.0);
        assert!(fs::symlink_metadata(named("web")).expect("it exists").is_symlink());
    });
}

#[test]
fn file_below_a_namespace_mount_is_deleted_only_if_empty() {
    in_private_namespaces(|world| {
        let netns = world.open("made");
        fs::write(named("notes"), "somebody's text").expect("written");
        nix::mount::mount(
            Some(&named("made")),
            &named("notes"),
            None::<&str>,
            nix::mount::MsFlags::MS_BIND,
            None::<&str>,
        )
        .expect("mounted");
        world.try_open(by_name("notes")).expect("opened");
        world.op(close(by_name("notes"), netns, true, false));
        assert_eq!(fs::read_to_string(named("notes")).expect("text"), "somebody's text");
    });
}

/// Creating a file through a dangling symbolic link always fails with EEXIST, as if another program had created the file first.
#[test]
fn dangling_symbolic_link_is_unavailable_until_its_target_exists() {
    in_private_namespaces(|world| {
        world.open("other");
        for (name, target) in [
            ("process", "/proc/4194304/ns/net"),
            ("file", "/run/none"),
            ("below", "/proc/self/stat/none"),
        ] {
            symlink(target, named(name)).expect("linked");
            let failure = world.try_open(by_name(name)).expect_err("nothing is there");
            assert_eq!(failure.kind, FailureKind::Unavailable, "{failure}");
            assert!(
                failure
                    .message
                    .contains(&format!("symbolic link to {target}, which does not exist")),
                "{failure}"
            );
            let failure = world.try_op(KernelOp::OpenNamespace {
                reference: by_name(name),
                mark: None,
            });
            assert_eq!(failure.expect_err("nothing is there").kind, FailureKind::Unavailable);
        }
        symlink(named("other"), "/run/none").expect("linked");
        let (netns, created, _) = world.try_open(by_name("file")).expect("opened");
        assert_eq!((netns, created), (world.open("other"), false));
    });
}

#[test]
fn nothing_is_created_or_removed_through_a_symbolic_link() {
    in_private_namespaces(|world| {
        let netns = world.open("ours");
        symlink(named("ours"), named("alias")).expect("linked");
        assert_eq!(world.open("alias"), netns);
        world.op(close(by_name("alias"), netns, true, false));
        assert!(named("alias").is_symlink(), "a foreign symbolic link must not be removed");
        assert_eq!(fs::metadata(named("ours")).expect("still mounted").ino(), netns.0);

        fs::write("/run/text", "somebody's text").expect("written");
        symlink("/run/text", named("text")).expect("linked");
        let failure = world.try_open(by_name("text")).expect_err("refused");
        assert_eq!(failure.kind, FailureKind::Unusable, "{failure}");
        assert_eq!(fs::read_to_string("/run/text").expect("not mounted over"), "somebody's text");
    });
}

#[test]
fn namespace_mounted_during_creation_is_opened_instead() {
    in_private_namespaces(|world| {
        run("ip", "netns add theirs");
        fs::write(named("slow"), "").expect("written");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Simulate another program that has created the file but has not yet mounted a namespace on it. Sleep, because no
                // event shows that the agent has found the file.
                std::thread::sleep(Duration::from_millis(5));
                let (from, to) = (named("theirs"), named("slow"));
                nix::mount::mount(Some(&from), &to, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>).expect("mounted");
            });
            let (netns, created, _) = world.try_open(by_name("slow")).expect("opened");
            assert!(!created);
            assert_eq!(fs::metadata(named("theirs")).expect("a file").ino(), netns.0);
        });
    });
}

#[test]
fn concurrent_creation_with_ip_netns_add_makes_one_namespace_per_name() {
    in_private_namespaces(|world| {
        let names: Vec<String> = (0..20).map(|index| format!("n{index}")).collect();
        let theirs = names.clone();
        std::thread::scope(|scope| {
            let other = scope.spawn(move || {
                // Ignore errors, because `ip` fails if the agent has created the name first.
                theirs
                    .iter()
                    .for_each(|name| drop(Command::new("ip").args(["netns", "add", name]).output()));
            });
            let opened: Vec<NetnsId> = names.iter().map(|name| world.open(name)).collect();
            other.join().expect("ip ended");
            for (name, netns) in names.iter().zip(opened) {
                assert_eq!(fs::metadata(named(name)).expect("a file").ino(), netns.0, "{name}");
            }
        });
        assert_eq!(run("ip", "netns list").lines().count(), 20);
    });
}

#[test]
fn namespaces_opened_in_one_batch_get_separate_results_in_order() {
    in_private_namespaces(|world| {
        run("ip", "netns add theirs");
        fs::create_dir(named("directory")).expect("created");
        let open = |name: &str| {
            vec![KernelOp::OpenNamespace {
                reference: by_name(name),
                mark: Some(MARK.to_owned()),
            }]
        };
        let results = world.tasks(vec![
            open("z"),
            open("theirs"),
            open("directory"),
            open("a"),
            open("z"),
            open("a/b"),
        ]);
        let opened = |index: usize| match &results[index] {
            Ok(Reply::Opened { netns, created, .. }) => (*netns, *created),
            other => panic!("not opened: {other:?}"),
        };
        for (index, name, created) in [(0, "z", true), (1, "theirs", false), (3, "a", true), (4, "z", false)] {
            assert_eq!(
                opened(index),
                (NetnsId(fs::metadata(named(name)).expect("a file").ino()), created),
                "{name}"
            );
        }
        assert_eq!(results[2].as_ref().expect_err("a directory").kind, FailureKind::Unusable);
        assert_eq!(results[5].as_ref().expect_err("no name").kind, FailureKind::Other);
        let own = fs::metadata("/proc/thread-self/ns/net").expect("own").ino();
        assert_eq!(world.executor.own_namespace(), NetnsId(own));
        assert!(world.executor.is_watched(opened(1).0) && world.executor.is_watched(opened(3).0));
    });
}

#[test]
fn namespaces_read_in_one_batch_get_their_own_contents() {
    in_private_namespaces(|world| {
        let names: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
        for name in &names {
            run("ip", &format!("netns add {name}"));
            run("ip", &format!("-n {name} link add in-{name} type veth peer name out"));
        }
        let shown = |contents: &Snapshot| contents.links.iter().map(|link| link.name.clone()).collect::<BTreeSet<_>>();
        let expected = |name: &str| BTreeSet::from(["lo".to_owned(), "out".to_owned(), format!("in-{name}")]);
        let open = |name: &String| {
            vec![KernelOp::OpenNamespace {
                reference: by_name(name),
                mark: None,
            }]
        };
        let mut opened = Vec::new();
        for (name, result) in names.iter().zip(world.tasks(names.iter().map(open).collect())) {
            let Ok(Reply::Opened { netns, contents, .. }) = result else {
                panic!("{name}: {result:?}")
            };
            assert_eq!(shown(&contents), expected(name));
            opened.push(netns);
        }
        let unknown = NetnsId(1);
        // Read one of the namespaces twice, and also try to read one that is not open.
        let wanted: Vec<NetnsId> = opened.iter().copied().chain([opened[3], unknown]).collect();
        let results = world.tasks(wanted.iter().map(|netns| vec![KernelOp::DumpNamespace { netns: *netns }]).collect());
        let whose = names.iter().chain([&names[3]]);
        for (name, result) in whose.zip(&results) {
            let Ok(Reply::Contents(contents)) = result else {
                panic!("{name}: {result:?}")
            };
            assert_eq!(shown(contents), expected(name));
        }
        assert!(results.last().is_some_and(Result::is_err), "{results:?}");
    });
}

/// Returns how many of these namespaces contain an open rtnetlink socket of any process.
fn awake(names: &[String]) -> usize {
    let sockets = |name: &String| run("ip", &format!("netns exec {name} cat /proc/net/netlink"));
    // Protocol 0 is NETLINK_ROUTE. Port 0 is the kernel's own socket.
    let is_open = |line: &str| matches!(line.split_whitespace().collect::<Vec<_>>()[..], [_, "0", port, ..] if port != "0");
    names.iter().filter(|name| sockets(name).lines().any(is_open)).count()
}

#[test]
fn number_of_namespaces_with_open_sockets_is_bounded() {
    const AWAKE_MAX: usize = 6;
    in_private_namespaces(|_| {
        let world = World::start(0, AWAKE_MAX);
        let names: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
        let open = |name: &String| {
            vec![KernelOp::OpenNamespace {
                reference: by_name(name),
                mark: Some(MARK.to_owned()),
            }]
        };
        let opened: Vec<NetnsId> = world
            .tasks(names.iter().map(open).collect())
            .into_iter()
            .map(|result| match result {
                Ok(Reply::Opened { netns, .. }) => netns,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!((1..=AWAKE_MAX).contains(&awake(&names)));
        let at = |place: usize| opened[place % opened.len()];
        let done = |results: Vec<Result<Reply, Failure>>| results.iter().for_each(|result| assert_eq!(*result, Ok(Reply::Done)));
        let pair = |place: usize| vec![create_veth((at(place), "right"), (at(place + 1), "left"))];
        done(world.tasks((0..opened.len()).map(pair).collect()));
        let mark = |place: usize| {
            let changes = |name: &str| LinkChanges {
                alias: Some(format!("{PREFIX}{name}")),
                up: Some(true),
                ..LinkChanges::default()
            };
            ["left", "right"].map(|name| set_link(at(place), name, changes(name))).to_vec()
        };
        done(world.tasks((0..opened.len()).map(mark).collect()));
        // Check two of the namespaces with `ip`, and then read all of them at once.
        for name in &names[3..5] {
            let up = ip(&format!("-n {name} link show up"));
            assert_eq!(up.as_array().map(Vec::len), Some(3), "expected lo and two ends: {up}");
        }
        let results = world.tasks(opened.iter().map(|netns| vec![KernelOp::DumpNamespace { netns: *netns }]).collect());
        for result in &results {
            assert!(
                matches!(result, Ok(Reply::Contents(contents)) if contents.links.len() == 3),
                "{result:?}"
            );
        }
        assert!((1..=AWAKE_MAX).contains(&awake(&names)));
        done(world.tasks((0..opened.len()).map(|place| vec![delete_link(at(place), "left")]).collect()));
        assert!(opened.iter().all(|netns| world.dump(*netns).links.len() == 1));
        for (name, netns) in names.iter().zip(&opened) {
            assert_eq!(world.op(close(by_name(name), *netns, true, false)), Reply::Done);
        }
        assert_eq!(run("ip", "netns list"), "");
    });
}

#[test]
fn failed_creation_leaves_no_name_and_says_what_failed() {
    in_private_namespaces(|world| {
        world.open("first");
        run("mount", "-o remount,ro /run/netns");
        let failure = world.try_open(by_name("second")).expect_err("read-only");
        assert_eq!(failure.errno, Some(nix::libc::EROFS), "{failure}");
        assert!(
            failure.message.contains("/run/netns/second") && failure.message.contains("create the file for the name"),
            "{failure}"
        );
        run("mount", "-o remount,rw /run/netns");
        assert_eq!(run("ip", "netns list").trim(), "first");
        assert_eq!(world.dump(world.open("second")).links.len(), 1);
    });
}

#[test]
fn only_a_file_left_by_a_crash_is_recognized_and_removed() {
    in_private_namespaces(|world| {
        let netns = world.open("real");
        fs::write(named("leftover"), format!("netns-agent {MARK}\n")).expect("written");
        fs::write(named("text"), "text").expect("written");
        fs::create_dir(named("directory")).expect("created");
        let orphan = |of: Option<&str>| NamedTarget::NotANamespace {
            orphan_of: of.map(str::to_owned),
        };
        let expected = [
            ("directory".to_owned(), orphan(None)),
            ("leftover".to_owned(), orphan(Some(MARK))),
            ("real".to_owned(), NamedTarget::Namespace(netns)),
            ("text".to_owned(), orphan(None)),
        ];
        assert_eq!(world.executor.dump_named().expect("read"), expected);
        assert_eq!(world.executor.remove_orphan("leftover", "netns-agent:other"), Ok(false));
        for name in ["real", "text", "directory", "missing"] {
            assert_eq!(world.executor.remove_orphan(name, MARK), Ok(false), "{name}");
        }
        assert_eq!(world.executor.remove_orphan("leftover", MARK), Ok(true));
        assert!(!named("leftover").exists() && named("text").exists());
    });
}

#[test]
fn placeholder_below_a_created_name_contains_the_mark() {
    in_private_namespaces(|world| {
        world.open("ours");
        nix::mount::umount(&named("ours")).expect("unmounted");
        assert_eq!(fs::read_to_string(named("ours")).expect("text"), format!("netns-agent {MARK}\n"));
        assert_eq!(fs::metadata(named("ours")).expect("a file").permissions().mode() & 0o777, 0o444);
    });
}

#[test]
fn wrong_file_is_unusable_and_missing_file_is_unavailable() {
    in_private_namespaces(|world| {
        world.open("other");
        fs::create_dir(named("directory")).expect("created");
        fs::write("/run/plain", "").expect("written");
        let cases = [
            (by_name("directory"), "a directory"),
            (NamespaceRef::File(PathBuf::from("/run")), "a directory"),
            (NamespaceRef::File(PathBuf::from("/run/plain")), "a regular file"),
            (NamespaceRef::File(PathBuf::from("/proc/self/ns/mnt")), "a mount namespace"),
            (NamespaceRef::File(PathBuf::from("/dev/null")), "a device"),
            (NamespaceRef::File(PathBuf::from("/run/missing")), "does not exist"),
        ];
        for (reference, words) in cases {
            let failure = world.try_open(reference).expect_err("no namespace");
            let may_come = words == "does not exist";
            let kind = if may_come {
                FailureKind::Unavailable
            } else {
                FailureKind::Unusable
            };
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(failure.message.contains(words), "{failure}");
        }
        for name in ["", ".", "..", "a/b"] {
            assert_eq!(
                world.try_open(by_name(name)).expect_err("refused").kind,
                FailureKind::Other,
                "{name:?}"
            );
        }
    });
}

#[test]
fn own_namespace_is_never_used_for_a_process() {
    in_private_namespaces(|world| {
        let (own, created, _) = world.try_open(NamespaceRef::Own).expect("opened");
        assert_eq!((own, created), (world.executor.own_namespace(), false));
        let sharing = Process::start("sleep", "60");
        let container = NamespaceRef::Container {
            label: "web".to_owned(),
            pid: sharing.pid(),
            start_time: ProcessStat::of(sharing.pid()).expect("it runs").start_time,
        };
        let file = NamespaceRef::File(PathBuf::from(format!("/proc/{}/ns/net", sharing.pid())));
        for reference in [NamespaceRef::Process(sharing.pid()), container, file] {
            let failure = world.try_open(reference).expect_err("refused");
            assert_eq!(failure.kind, FailureKind::Unavailable);
            assert!(failure.message.contains("shares the agent's own network namespace"), "{failure}");
        }
        fs::create_dir_all("/run/netns").expect("created");
        fs::write(named("own"), "").expect("written");
        run("mount", "--bind /proc/self/ns/net /run/netns/own");
        assert_eq!(world.try_open(by_name("own")).expect("allowed by name").0, own);
        assert_eq!(world.try_open(NamespaceRef::File(named("own"))).expect("allowed by file").0, own);
    });
}

#[test]
fn namespace_of_a_process_is_unavailable_once_it_is_a_zombie() {
    in_private_namespaces(|world| {
        let mut process = Process::in_new_namespace();
        let reference = NamespaceRef::Process(process.pid());
        let (netns, created, contents) = world.try_open(reference.clone()).expect("opened");
        assert!(!created);
        assert_eq!(contents.links.len(), 1);
        assert_ne!(netns, world.executor.own_namespace());
        assert!(process_namespaces().expect("read").contains(&(netns, process.pid())));
        let task = PathBuf::from(format!("/proc/{0}/task/{0}/ns/net", process.pid()));
        assert_eq!(world.try_open(NamespaceRef::File(task)).expect("opened").0, netns);
        let verify = KernelOp::VerifyNamespace {
            reference: reference.clone(),
            netns,
        };
        assert_eq!(world.op(verify.clone()), Reply::Same);

        process.kill();
        // SIGKILL takes effect asynchronously, so retry until the process is a zombie.
        let until = Instant::now() + TIME_LIMIT;
        let failure = loop {
            match world.try_open(reference.clone()) {
                Err(failure) => break failure,
                Ok(_) => assert!(Instant::now() < until, "the process does not end"),
            }
        };
        assert_eq!(failure.kind, FailureKind::Unavailable);
        assert!(failure.message.contains("has ended"), "{failure}");
        assert!(matches!(world.op(verify), Reply::Changed(text) if text.contains("has ended")));
        assert_eq!(world.dump(netns).links.len(), 1, "an open namespace must outlive its process");
    });
}

#[test]
fn container_with_a_reused_pid_is_unavailable() {
    in_private_namespaces(|world| {
        let process = Process::in_new_namespace();
        let reference = NamespaceRef::Container {
            label: "web".to_owned(),
            pid: process.pid(),
            start_time: 1,
        };
        let failure = world.try_open(reference).expect_err("refused");
        assert_eq!(failure.kind, FailureKind::Unavailable);
        assert!(
            failure.message.contains("\"web\"") && failure.message.contains("another process (`cat`)"),
            "{failure}"
        );
    });
}

/// The test needs to choose a PID, which requires a separate PID namespace. So it runs another test in a new PID namespace.
#[test]
fn reused_pid_is_unavailable_until_its_reference_is_closed() {
    let this = std::env::current_exe().expect("this program");
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--mount"])
        .arg(this)
        .args(["--exact", "namespaces::reuse_of_a_pid", "--ignored", "--nocapture"])
        .output()
        .expect("unshare starts");
    let reported = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && reported.contains("1 passed"),
        "{reported}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "runs in its own PID namespace, started by the test above"]
fn reuse_of_a_pid() {
    in_private_namespaces(|world| {
        let first = Process::in_new_namespace();
        let pid = first.pid();
        let reference = NamespaceRef::Process(pid);
        let (netns, ..) = world.try_open(reference.clone()).expect("opened");
        drop(first);
        let mut second = None;
        for _ in 0..100 {
            fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("set ns_last_pid");
            let process = Process::in_new_namespace();
            if process.pid() == pid {
                second = Some(process);
                break;
            }
        }
        let _second = second.expect("reuse the PID");
        let failure = world.try_open(reference.clone()).expect_err("another process");
        assert_eq!(failure.kind, FailureKind::Unavailable);
        let words = format!("PID {pid} was reused and now belongs to another process (`cat`); to use the new process, delete the value");
        assert!(failure.message.contains(&words), "{failure}");
        let verify = KernelOp::VerifyNamespace {
            reference: reference.clone(),
            netns,
        };
        assert!(matches!(world.op(verify), Reply::Changed(text) if text.contains("another process")));

        world.op(close(reference.clone(), netns, false, true));
        let (other, ..) = world.try_open(reference).expect("open the namespace of the new process");
        assert_ne!(other, netns);
    });
}

#[test]
fn verification_notices_a_name_of_another_namespace() {
    in_private_namespaces(|world| {
        let netns = world.open("name");
        let verify = KernelOp::VerifyNamespace {
            reference: by_name("name"),
            netns,
        };
        assert_eq!(world.op(verify.clone()), Reply::Same);
        run("ip", "netns del name");
        assert!(matches!(world.op(verify.clone()), Reply::Changed(text) if text.contains("does not exist")));
        run("ip", "netns add name");
        assert!(matches!(world.op(verify), Reply::Changed(text) if text.contains(&netns.to_string())));
    });
}

#[test]
fn each_rearming_allows_one_event_however_many_changes_happen() {
    in_private_namespaces(|world| {
        let netns = world.open("a");
        run("ip", "-n a link add x type veth peer name y");
        assert_eq!(world.event(TIME_LIMIT), Some(netns));
        run("ip", "-n a link del x");
        run("ip", "-n a link add x type veth peer name y");
        assert_eq!(
            world.event(Duration::from_millis(50)),
            None,
            "a watch that is not armed must not report an event"
        );
        world.executor.rearm(netns);
        assert_eq!(world.event(TIME_LIMIT), Some(netns), "a change before arming must be reported");
        world.executor.rearm(netns);
        run("ip", "-n a link del x");
        assert_eq!(world.event(TIME_LIMIT), Some(netns));
        assert_eq!(world.event(Duration::from_millis(50)), None);
    });
}

#[test]
fn overrun_of_notifications_is_an_event() {
    in_private_namespaces(|world| {
        let netns = world.open("a");
        run("ip", "-n a link add x type veth peer name y");
        assert_eq!(world.event(TIME_LIMIT), Some(netns));
        // The socket is not read until the watch is armed again, so send far more than its buffer can hold.
        let commands: String = (0..4000).map(|index| format!("link set x mtu {}\n", 1000 + index % 2)).collect();
        fs::write("/run/batch", commands).expect("written");
        run("ip", "-n a -batch /run/batch");
        world.executor.rearm(netns);
        assert_eq!(world.event(TIME_LIMIT), Some(netns));
        world.executor.rearm(netns);
        run("ip", "-n a link del x");
        assert_eq!(world.event(TIME_LIMIT), Some(netns), "the watch must continue");
    });
}

#[test]
fn only_deletions_of_own_neighbours_and_routes_are_events() {
    in_private_namespaces(|world| {
        let netns = world.open("a");
        // Disable IPv6, because it would cause notifications for several seconds.
        run("ip", "netns exec a sysctl -q -w net.ipv6.conf.default.disable_ipv6=1");
        world.veth((netns, "x"), (netns, "y"));
        let mac = [2, 0, 0, 0, 0, 1];
        world.op(KernelOp::AddAddress {
            netns,
            link: "x".to_owned(),
            guard: Guard::Any,
            address: address("10.1.0.1/24"),
            detection: AddressDetection::Default,
            shared: false,
        });
        world.op(KernelOp::SetNeighbour {
            netns,
            link: "x".to_owned(),
            guard: Guard::Any,
            address: ip_address("10.1.0.2"),
            mac,
            adopt: false,
        });
        let ours = route("10.2.0.0/16", Some("10.1.0.2"));
        world.op(KernelOp::AddRoute {
            netns,
            link: "x".to_owned(),
            guard: Guard::Any,
            route: ours,
            replace: false,
            adopt: false,
        });
        // The kernel can take a second to report the operational state of a link (net/core/link_watch.c).
        let quiet = |world: &mut World| {
            while world.event(Duration::from_millis(1200)).is_some() {
                world.executor.rearm(netns);
            }
        };
        quiet(world);
        run("ip", "-n a route add 10.3.0.0/16 via 10.1.0.2 dev x");
        run("ip", "-n a route del 10.3.0.0/16");
        run("ip", "-n a neighbour add 10.1.0.9 lladdr 02:00:00:00:00:09 dev x nud stale");
        run("ip", "-n a neighbour del 10.1.0.9 dev x");
        assert_eq!(
            world.event(Duration::from_millis(100)),
            None,
            "foreign deletions must not be reported"
        );
        run("ip", "-n a neighbour del 10.1.0.2 dev x");
        assert_eq!(world.event(TIME_LIMIT), Some(netns));
        world.executor.rearm(netns);
        quiet(world);
        run("ip", "-n a route del 10.2.0.0/16");
        assert_eq!(world.event(TIME_LIMIT), Some(netns));
    });
}

#[test]
fn namespaces_stay_within_their_share_of_open_files() {
    const DESCRIPTORS: usize = 40;
    const ROOM: usize = 24;
    in_private_namespaces(|_| {
        let shares = OpenFiles {
            namespaces: DESCRIPTORS,
            watches: 2,
            ..OpenFiles::divide(None)
        };
        let world = World::start_with(|config| ExecutorConfig {
            open_files: shares,
            ..config
        });
        let names: Vec<String> = (0..ROOM).map(|number| format!("n{number}")).collect();
        let opened: Vec<NetnsId> = names.iter().map(|name| world.open(name)).collect();
        assert!(
            opened.len() + 2 * awake(&names) <= DESCRIPTORS,
            "{} namespaces are awake",
            awake(&names)
        );
        assert_eq!(opened.iter().filter(|netns| world.executor.is_watched(**netns)).count(), 2);
        let failure = world.try_open(by_name("one-more")).expect_err("there is no room");
        assert!(
            failure.message.contains("the maximum of 24 network namespaces is already open") && failure.message.contains("LimitNOFILE"),
            "{}",
            failure.message
        );
        assert!(!named("one-more").exists(), "the created name must be removed again");
        // Namespaces that are already open must still work, and closing one of them must free its descriptors.
        for netns in &opened {
            assert_eq!(world.dump(*netns).links.len(), 1);
        }
        world.op(close(by_name("n0"), opened[0], true, false));
        world.open("one-more");
    });
}

#[test]
fn number_of_watched_namespaces_is_bounded_and_freed_watches_are_reused() {
    in_private_namespaces(|_| {
        let world = &mut World::start(1, 4096);
        let (a, b) = (world.open("a"), world.open("b"));
        assert!(world.executor.is_watched(a) && !world.executor.is_watched(b));
        world.op(close(by_name("a"), a, false, false));
        assert!(!world.executor.is_watched(a));
        world.open("b");
        assert!(world.executor.is_watched(b));
        run("ip", "-n b link add x type veth peer name y");
        assert_eq!(world.event(TIME_LIMIT), Some(b));
    });
}

#[test]
fn dropping_the_executor_ends_its_threads_and_closes_its_descriptors() {
    in_private_namespaces(|_| {
        let threads = || {
            let tasks = fs::read_dir("/proc/self/task").expect("tasks");
            let own = fs::read_link("/proc/thread-self/ns/mnt").expect("own mounts");
            // Other tests run in this process too. Only the threads of this test share its mount namespace.
            tasks
                .filter_map(Result::ok)
                .filter(|task| fs::read_link(task.path().join("ns/mnt")).is_ok_and(|found| found == own))
                .count()
        };
        let before = threads();
        let world = World::start(300, 4096);
        let netns = world.open("a");
        assert_eq!(threads(), before + 3);
        drop(world);
        let until = Instant::now() + TIME_LIMIT;
        while threads() > before {
            assert!(Instant::now() < until, "all threads must end");
        }
        run("ip", "netns del a");
        let pinned = || {
            let descriptors = fs::read_dir("/proc/self/fd").expect("descriptors");
            descriptors
                .filter_map(Result::ok)
                .any(|found| fs::metadata(found.path()).is_ok_and(|found| found.ino() == netns.0))
        };
        assert!(!pinned(), "the namespace must be closed");
    });
}

#[test]
fn opening_without_a_mark_does_not_create_a_missing_namespace() {
    in_private_namespaces(|world| {
        let open = KernelOp::OpenNamespace {
            reference: by_name("gone"),
            mark: None,
        };
        let failure = world.try_op(open).expect_err("there is no such namespace");
        assert_eq!(failure.kind, FailureKind::Unavailable, "{failure:?}");
        assert!(!std::path::Path::new("/run/netns/gone").exists());
    });
}

#[test]
fn print_the_cost_of_creating_opening_and_reading() {
    in_private_namespaces(|world| {
        let count = 100;
        let open = |index| {
            vec![KernelOp::OpenNamespace {
                reference: by_name(&format!("n{index}")),
                mark: Some(MARK.to_owned()),
            }]
        };
        let started = Instant::now();
        world
            .tasks((0..count).map(open).collect())
            .into_iter()
            .for_each(|result| assert!(result.is_ok(), "{result:?}"));
        println!(
            "namespace created, opened, watched and read: {} µs",
            started.elapsed().as_micros() / count
        );
        let other = World::start(300, 4096);
        let started = Instant::now();
        other
            .tasks((0..count).map(open).collect())
            .into_iter()
            .for_each(|result| assert!(result.is_ok(), "{result:?}"));
        println!("namespace opened, watched and read: {} µs", started.elapsed().as_micros() / count);
    });
}
