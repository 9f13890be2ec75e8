//! The clients that the project offers: the library, blocking and not, and the example in Python.

use std::process::Command;
use std::sync::atomic::Ordering;

use dlmgmt_proto::door::{LinkFilter, RenameItem};
use dlmgmt_proto::{ErrorCode, Event, LinkId, Seq};
use libdlmgmt::{Client, ClientError, aio};

use crate::calls::{events, eventually, net};
use crate::fake::{Fake, Served, link};

fn now(to: &str) -> Vec<RenameItem> {
    vec![RenameItem { link: net(1), to: to.to_owned() }]
}

#[test]
fn the_blocking_client_asks_changes_holds_and_is_told() {
    let fake = Fake::new(2000);
    let served = Served::new(&fake);
    let client = Client::connect(served.path()).unwrap();
    assert_eq!(client.greeting().version, 1);
    assert_eq!(client.linkid(net(2)).unwrap().get(), 2);
    assert_eq!(client.name(LinkId::new(2).unwrap()).unwrap().name, link(2).name);
    assert_eq!(client.link(net(2)).unwrap(), link(2));
    assert_eq!(client.list(LinkFilter::default()).unwrap().len(), 2000);
    assert_eq!(client.rename(now("now")).unwrap().seq, Seq(2));
    let (kept, released) = (client.hold(net(1)).unwrap(), client.hold(net(1)).unwrap());
    released.release().unwrap();
    assert_eq!(fake.holds.load(Ordering::SeqCst), 1);
    drop(kept);
    eventually("no hold is left", || fake.holds.load(Ordering::SeqCst) == 0);
    let told = client.subscribe(events(Some(Seq(3)))).unwrap();
    let told: Vec<u64> = told.take(3).map(|event| event.unwrap().seq.0).collect();
    assert_eq!(told, [1, 2, 3]);
}

#[test]
fn the_asynchronous_client_does_the_same() {
    let fake = Fake::new(2000);
    let served = Served::new(&fake);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = aio::Client::connect(served.path()).await.unwrap();
        assert_eq!(client.linkid(net(2)).await.unwrap().get(), 2);
        assert_eq!(client.name(LinkId::new(2).unwrap()).await.unwrap().name, link(2).name);
        assert_eq!(client.link(net(2)).await.unwrap(), link(2));
        assert_eq!(client.list(LinkFilter::default()).await.unwrap().len(), 2000);
        assert_eq!(client.rename(now("now")).await.unwrap().seq, Seq(2));
        client.import(&tempfile::tempfile().unwrap()).await.unwrap();
        assert_eq!(client.export().await.unwrap(), b"");
        client.hold(net(1)).await.unwrap().release().await.unwrap();
        assert_eq!(fake.holds.load(Ordering::SeqCst), 0);
        let mut told = client.subscribe(events(Some(Seq(1)))).await.unwrap();
        let event = told.next().await.unwrap().unwrap().event;
        assert_eq!(event, Event::Added(link(1)));
    });
}

#[test]
fn a_call_that_is_given_up_does_not_confuse_the_next() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = aio::Client::connect(served.path()).await.unwrap();
        tokio::select! {
            biased;
            _ = client.rename(now("later")) => panic!("the gate is shut"),
            () = tokio::task::yield_now() => {}
        }
        fake.gate.add_permits(1);
        assert_eq!(client.linkid(net(1)).await.unwrap().get(), 1);
    });
}

#[test]
fn a_refusal_tells_its_code_and_a_missing_daemon_its_path() {
    let mut served = Served::new(&Fake::new(1));
    let client = Client::connect(served.path()).unwrap();
    match client.linkid(net(9)) {
        Err(ClientError::Refused(error)) => assert_eq!(error.code, ErrorCode::NotFound),
        other => panic!("{other:?}"),
    }
    served.stop();
    assert!(matches!(client.linkid(net(1)), Err(ClientError::Closed)));
    match Client::connect(served.path()).err() {
        Some(ClientError::Unreachable { path, .. }) => assert_eq!(path, served.path()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_subscription_ends_when_the_daemon_does() {
    let mut served = Served::new(&Fake::new(1));
    let client = Client::connect(served.path()).unwrap();
    let mut told = client.subscribe(events(Some(Seq(1)))).unwrap();
    assert!(told.next().unwrap().is_ok());
    served.stop();
    assert!(told.next().is_none());
}

#[test]
fn a_client_in_python_is_written_from_the_document_alone() {
    let served = Served::new(&Fake::new(2000));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/door_client.py");
    let run = Command::new("python3").arg(script).arg(served.path()).arg("net7").output();
    let Ok(run) = run else {
        eprintln!("no python3 here: the example is not run");
        return;
    };
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(told.contains("net7 has linkid 7\n"), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("link ")).count(), 2000);
}
