//! Records that a process has left are read for what they are, or refused.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;

use common::manager::{Manager, kept, settle, start};
use common::served::Served;
use common::wire::{Client, register};
use epmd_server::{EstateError, Inheritance, InheritanceError};

/// The records of a server that is gone, as they are changed, handed over.
fn handed_back_with(
    change: impl FnOnce(&str) -> String,
) -> (Client, Result<Inheritance, InheritanceError>) {
    let manager = Manager::start();
    let server = start(&manager, kept());
    let (node, _) = register(server.port(), b"n1");
    settle(&manager, &server);
    server.leave();
    manager.tamper(|stored| {
        let records = stored.iter_mut().find_map(|(_, descriptor)| {
            let text = text_of(descriptor)?;
            Some((descriptor, text))
        });
        let (descriptor, text) = records.unwrap();
        let mut changed = File::from(
            rustix::fs::memfd_create("changed", rustix::fs::MemfdFlags::CLOEXEC).unwrap(),
        );
        changed.write_all(change(&text).as_bytes()).unwrap();
        *descriptor = changed.into();
    });
    let handed_back = manager.hand_back();
    assert!(node.is_open(), "the manager has it still");
    (node, handed_back)
}

fn text_of(descriptor: &OwnedFd) -> Option<String> {
    let mut file = File::from(descriptor.try_clone().unwrap());
    file.rewind().ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.starts_with('{').then_some(text)
}

#[test]
fn records_of_a_newer_version_are_refused_and_nothing_is_closed() {
    let newer = |text: &str| text.replacen("\"portmapper_estate\":1", "\"portmapper_estate\":2", 1);
    let (_node, refused) = handed_back_with(newer);
    let error = refused.unwrap_err();
    assert!(matches!(error, InheritanceError::Estate(EstateError::Version(2))), "{error}");
    assert_eq!(error.to_string(), "the records have version 2, expected 1 at most");
}

#[test]
fn records_that_make_no_sense_are_refused_and_nothing_is_closed() {
    let broken: [fn(&str) -> String; 4] = [
        |_| "no records\n".to_owned(),
        |_| String::new(),
        |text| text.replacen("\"creation\":", "\"creation\":-", 1),
        |text| format!("{text}{{\"down\":\"nobody\"}}\n"),
    ];
    for change in broken {
        let (_node, refused) = handed_back_with(change);
        assert!(matches!(refused, Err(InheritanceError::Estate(_))), "{refused:?}");
    }
}

#[test]
fn fields_that_a_later_version_may_add_are_passed_over() {
    let (node, handed_back) =
        handed_back_with(|text| text.replace("\"port\":", "\"colour\":\"green\",\"port\":"));
    let server = Served::with_estate(kept(), handed_back.unwrap().estate);
    assert_eq!((server.count(), node.is_open()), (1, true));
}

#[test]
fn a_last_record_that_was_cut_off_did_not_happen() {
    let (node, handed_back) = handed_back_with(|text| format!("{text}{{\"down\":\"n"));
    let server = Served::with_estate(kept(), handed_back.unwrap().estate);
    assert_eq!((server.count(), node.is_open()), (1, true));
}
