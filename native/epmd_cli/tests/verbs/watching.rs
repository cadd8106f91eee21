//! Watching a port mapper.

use std::io::{BufRead, BufReader};

use super::*;

/// Starts watching; the process, and its output by lines.
fn watching(port: u16, arguments: &[&str]) -> (Child, impl Iterator<Item = String>) {
    let mut command = Command::new(OURS);
    command.args(["-port", &port.to_string()]).args(arguments).env_remove("ERL_EPMD_PORT");
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let out = BufReader::new(process.stdout.take().unwrap());
    (process, out.lines().map(Result::unwrap))
}

#[test]
fn watch_prints_who_is_there_and_who_comes_and_goes_until_the_end() {
    let server = Served::with(false);
    let port = server.port();
    let _stays = server.register("web1", 1, b"");
    let _other = server.register("db1", 2, b"");
    let (mut process, mut lines) = watching(port, &["-watch", "web*"]);
    assert_eq!(lines.next().as_deref(), Some("name web1 at port 1"));
    let (mut of_json, mut objects) = watching(port, &["-watch", "-json"]);
    let object = |line: Option<String>| serde_json::from_str::<Value>(&line.unwrap()).unwrap();
    let first = object(objects.next());
    assert_eq!(
        (&first["event"], &first["sequence"], &first["missed"]),
        (&json!("nodes"), &json!(2), &json!(0))
    );
    assert_eq!(first["nodes"][1]["name"], json!("db1"));
    drop(server.register("web2", 3, b""));
    assert_eq!(lines.next().as_deref(), Some("up web2 at port 3"));
    assert_eq!(lines.next().as_deref(), Some("down web2 (closed)"));
    let up = object(objects.next());
    assert_eq!(
        (&up["event"], &up["sequence"], &up["port"], &up["type"]),
        (&json!("up"), &json!(3), &json!(3), &json!(72))
    );
    let down = object(objects.next());
    let creation = &up["creation"];
    let expected = json!({
        "event": "down", "sequence": 4, "name": "web2", "creation": creation, "reason": "closed"
    });
    assert_eq!(down, expected);
    drop(server);
    assert_eq!((lines.next(), objects.next()), (None, None));
    assert_eq!(process.wait().unwrap().code(), Some(1));
    assert_eq!(of_json.wait().unwrap().code(), Some(1));
}

#[test]
fn another_epmd_cannot_be_watched_but_its_names_match() {
    let c = CEpmd::start();
    let _node = register(c.port, "n1", 4711, b"");
    let (status, out, error) = shown(&run(OURS, c.port, &["-watch"]));
    assert_eq!((status, &out[..]), (Some(1), ""));
    assert_eq!(error, "epmd: this EPMD cannot be watched, or does not permit it\\n");
    let line = "name n1 at port 4711\n".to_owned();
    assert_eq!(printed(c.port, &["-match", "n?"]), (Some(0), line));
}
