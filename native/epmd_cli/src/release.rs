//! The release that has the Erlang virtual machine, and the command that
//! becomes it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use epmd_core::Exposure;
use epmd_server::{Addresses, Config};
use rustix::fs::{Access, access};
use thiserror::Error;

/// Where packages put the release; a copy of the program in OTP's own directory
/// finds it there.
const PREFIXES: [&str; 3] = ["/usr/lib/portmapper", "/usr/local/lib/portmapper", "/opt/portmapper"];

/// Variables by which a user's environment would change the virtual machine, or
/// that the command line has taken in already.
const OWN_VARIABLES: [&str; 7] =
    ["EMU", "LISTEN_FDNAMES", "PROGNAME", "RELDIR", "RELEASE_", "ERL_", "RUST_BACKTRACE"];

/// The configuration of `logger` in the background.
const SYSTEM_LOG: &str = "[{handler,default,portmapper_syslog,#{}}]";

/// A release, found and complete.
#[derive(Debug)]
pub(crate) struct Release {
    root: PathBuf,
    erts_bin: PathBuf,
    version_directory: PathBuf,
}

/// Why there is no virtual machine to start.
#[derive(Debug, Error)]
pub(crate) enum ReleaseError {
    #[error(
        "there is no release in {0}. Make this program a link to bin/epmd of the release, \
         install the release in {prefix}, or set PORTMAPPER_ROOT",
        prefix = PREFIXES[2]
    )]
    NotFound(String),
    #[error("the release in {root} is not complete: {path}: {error}", root = .root.display(), path = .path.display())]
    Incomplete { root: PathBuf, path: PathBuf, error: io::Error },
    #[error("{path} is not as it should be: \"{text}\", expected two versions", path = .path.display())]
    BadVersions { path: PathBuf, text: String },
}

impl Release {
    /// Finds the release: named by the environment, or that which this program
    /// is part of, or one that is installed.
    pub(crate) fn find(named: Option<OsString>) -> Result<Self, ReleaseError> {
        if let Some(root) = named.filter(|root| !root.is_empty()) {
            return Self::open(root.into());
        }
        let own = std::env::current_exe().and_then(|exe| exe.canonicalize()).ok();
        let own = own.and_then(|exe| Some(exe.parent()?.parent()?.to_path_buf()));
        let roots: Vec<PathBuf> = own.into_iter().chain(PREFIXES.map(PathBuf::from)).collect();
        match roots.iter().find(|root| versions_file(root).exists()) {
            Some(root) => Self::open(root.clone()),
            None => {
                let list: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
                Err(ReleaseError::NotFound(list.join(", ")))
            }
        }
    }

    /// Whatever can be missing is looked for now, so that the user hears of it.
    fn open(root: PathBuf) -> Result<Self, ReleaseError> {
        let incomplete = |path: &Path, error| ReleaseError::Incomplete {
            root: root.clone(),
            path: path.to_path_buf(),
            error,
        };
        // The virtual machine may run in another directory, and loads code as it
        // uses it: it has to find the same release for as long as it runs.
        let root = root.canonicalize().map_err(|error| incomplete(&root, error))?;
        let path = versions_file(&root);
        let text = std::fs::read_to_string(&path).map_err(|error| incomplete(&path, error))?;
        let [erts, version] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(ReleaseError::BadVersions { path, text });
        };
        let erts_bin = root.join(format!("erts-{erts}/bin"));
        let version_directory = root.join("releases").join(version);
        let library = root.join(format!("lib/portmapper-{version}/priv/portmapper_nif.so"));
        let programs = ["erlexec", "beam.smp", "erl_child_setup"].map(|name| erts_bin.join(name));
        let files =
            ["start.boot", "vm.args", "sys.config"].map(|name| version_directory.join(name));
        let needed = programs
            .iter()
            .map(|path| (path, Access::EXEC_OK))
            .chain(files.iter().chain([&library]).map(|path| (path, Access::READ_OK)));
        for (path, mode) in needed {
            access(path, mode).map_err(|error| incomplete(path, error.into()))?;
        }
        Ok(Self { root, erts_bin, version_directory })
    }

    /// The command that becomes the virtual machine, whose manager stores so many
    /// descriptors.
    pub(crate) fn command(
        &self,
        config: &Config,
        debug: u8,
        daemon: bool,
        stored_descriptors: u64,
    ) -> Command {
        let mut command = Command::new(self.erts_bin.join("erlexec"));
        let file = |name| self.version_directory.join(name);
        command.arg("-boot").arg(file("start"));
        command.arg("-args_file").arg(file("vm.args"));
        command.arg("-config").arg(file("sys"));
        for (key, value) in environment(config, debug) {
            command.args(["-portmapper", key]).arg(value);
        }
        command.args(["-portmapper", "stored_descriptors"]).arg(stored_descriptors.to_string());
        if daemon {
            command.args(["-kernel", "logger", SYSTEM_LOG]);
        }
        for (name, _) in std::env::vars_os() {
            if is_own(&name) {
                command.env_remove(name);
            }
        }
        command.env("ROOTDIR", &self.root);
        command.env("BINDIR", &self.erts_bin);
        command.env("EMU", "beam");
        command.env("PROGNAME", "epmd");
        // Without a home `erl` does not start.
        if std::env::var_os("HOME").is_none_or(|home| home.is_empty()) {
            command.env("HOME", "/");
        }
        // Nor does it where it cannot tell its directory, because that is gone.
        if std::env::current_dir().is_err() {
            command.current_dir("/");
        }
        // Without an end the dump of a crash would fill the directory.
        command.env("ERL_CRASH_DUMP_SECONDS", "0");
        command.env("MALLOC_ARENA_MAX", "1");
        command
    }
}

fn versions_file(root: &Path) -> PathBuf {
    root.join("releases/start_erl.data")
}

fn is_own(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    OWN_VARIABLES.iter().any(|own| match own.strip_suffix('_') {
        Some(_) => name.starts_with(own),
        None => name == *own,
    })
}

const fn exposure(exposure: Exposure) -> &'static str {
    match exposure {
        Exposure::All => "all",
        Exposure::Lookup => "lookup",
        Exposure::Local => "local",
    }
}

/// The configuration as the application's environment: keys and Erlang terms.
fn environment(config: &Config, debug: u8) -> Vec<(&'static str, String)> {
    let seconds = |duration: std::time::Duration| duration.as_secs().to_string();
    let mut environment = vec![
        ("port", config.port.to_string()),
        ("relaxed_command_check", config.relaxed_command_check.to_string()),
        ("packet_timeout", seconds(config.packet_timeout.duration())),
        ("local_reserve", config.local_reserve.to_string()),
        ("delay_accept", seconds(config.delay_accept.duration())),
        ("delay_write", seconds(config.delay_write.duration())),
        ("remembered_names", config.remembered_names.to_string()),
        ("systemd", "true".to_owned()),
        ("exposure", exposure(config.exposure).to_owned()),
    ];
    let limits =
        [("max_nodes", config.max_nodes), ("max_nodes_per_process", config.max_nodes_per_process)];
    let limits = limits.into_iter().filter_map(|(key, limit)| Some((key, limit.get()?)));
    environment.extend(limits.map(|(key, max)| (key, max.to_string())));
    if let Addresses::List(list) = &config.addresses {
        let list: Vec<_> = list.iter().map(|ip| format!("\"{ip}\"")).collect();
        environment.push(("addresses", format!("[{}]", list.join(","))));
    }
    if config.takeover {
        environment.push(("takeover", "true".to_owned()));
    }
    if debug > 0 {
        environment.push(("log_level", "debug".to_owned()));
        environment.push(("debug", debug.min(3).to_string()));
    }
    environment
}
