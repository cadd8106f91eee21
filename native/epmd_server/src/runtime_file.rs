//! Files that a port mapper has for as long as the system runs.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ConfigError;

/// A file of this port mapper, whose path has at most `MAX` bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub enum RuntimeFile<const MAX: usize> {
    /// In the directory for such files, its name and the port as its name:
    /// `$RUNTIME_DIRECTORY`, else for root `/run/portmapper`, else `portmapper` in
    /// `$XDG_RUNTIME_DIR`, else `/tmp/portmapper-UID`.
    Default,
    /// There is none.
    None,
    /// This one.
    Path(PathBuf),
}

/// A word or a path.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Word(Word),
    Path(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Default,
    None,
}

impl<const MAX: usize> TryFrom<Form> for RuntimeFile<MAX> {
    type Error = ConfigError;

    fn try_from(form: Form) -> Result<Self, ConfigError> {
        match form {
            Form::Word(Word::Default) => Ok(Self::Default),
            Form::Word(Word::None) => Ok(Self::None),
            Form::Path(path) if path.starts_with('/') && path.len() <= MAX => {
                Ok(Self::Path(path.into()))
            }
            Form::Path(path) => Err(ConfigError::Path { path, max: MAX }),
        }
    }
}

impl<const MAX: usize> From<RuntimeFile<MAX>> for Form {
    fn from(file: RuntimeFile<MAX>) -> Self {
        match file {
            RuntimeFile::Default => Self::Word(Word::Default),
            RuntimeFile::None => Self::Word(Word::None),
            RuntimeFile::Path(path) => Self::Path(path.to_string_lossy().into_owned()),
        }
    }
}

impl<const MAX: usize> RuntimeFile<MAX> {
    /// The path of the file of this name for the port mapper on a port, if there is
    /// to be one.
    pub(crate) fn path(&self, name: &str, port: u16) -> Option<PathBuf> {
        match self {
            Self::Default => Some(directory().join(format!("{name}-{port}"))),
            Self::None => None,
            Self::Path(path) => Some(path.clone()),
        }
    }

    /// Makes the directory that [`Self::path`] is in, where it is ours to make.
    /// In one that others may write to, the path could become anybody's.
    pub(crate) fn make_directory(&self) -> io::Result<()> {
        if *self != Self::Default {
            return Ok(());
        }
        let directory = directory();
        match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        check_directory(&directory)
    }
}

fn check_directory(directory: &Path) -> io::Result<()> {
    // Not of what a link leads to.
    let about = directory.symlink_metadata()?;
    let uid = rustix::process::geteuid().as_raw();
    if about.is_dir() && about.uid() == uid && about.mode() & 0o022 == 0 {
        return Ok(());
    }
    let directory = directory.display();
    Err(io::Error::other(format!("{directory} is no directory of this user alone")))
}

fn directory() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    directory_for(uid, |name| std::env::var_os(name))
}

fn directory_for(uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let absolute = |name| {
        // A service manager may list several.
        let value = variable(name)?.into_string().ok()?;
        let first = value.split(':').next().filter(|path| path.starts_with('/'))?;
        Some(PathBuf::from(first))
    };
    if let Some(directory) = absolute("RUNTIME_DIRECTORY") {
        return directory;
    }
    if uid == 0 {
        return "/run/portmapper".into();
    }
    match absolute("XDG_RUNTIME_DIR") {
        Some(directory) => directory.join("portmapper"),
        None => format!("/tmp/portmapper-{uid}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory_with(uid: u32, variables: &[(&str, &str)]) -> String {
        let value = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| OsString::from(value))
        };
        directory_for(uid, value).to_str().unwrap().to_owned()
    }

    #[test]
    fn the_directory_is_that_of_the_service_else_of_the_user() {
        let xdg = ("XDG_RUNTIME_DIR", "/run/user/7");
        assert_eq!(directory_with(7, &[("RUNTIME_DIRECTORY", "/run/a:/run/b"), xdg]), "/run/a");
        assert_eq!(directory_with(0, &[("RUNTIME_DIRECTORY", "/run/a")]), "/run/a");
        assert_eq!(directory_with(0, &[xdg]), "/run/portmapper");
        assert_eq!(directory_with(7, &[xdg]), "/run/user/7/portmapper");
        assert_eq!(directory_with(7, &[("XDG_RUNTIME_DIR", "here")]), "/tmp/portmapper-7");
        assert_eq!(directory_with(7, &[("RUNTIME_DIRECTORY", "")]), "/tmp/portmapper-7");
    }

    #[test]
    fn a_directory_that_is_not_this_user_s_alone_is_not_used() {
        let base = std::env::temp_dir().join(format!("runtime-file-{}", std::process::id()));
        std::fs::create_dir(&base).unwrap();
        let make = |name: &str, mode| {
            let path = base.join(name);
            std::fs::create_dir(&path).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&path, mode).unwrap();
            path
        };
        let (own, open) = (make("own", 0o755), make("open", 0o777));
        let (link, file) = (base.join("link"), base.join("file"));
        std::os::unix::fs::symlink(&own, &link).unwrap();
        std::fs::write(&file, "").unwrap();
        let used = [&own, &open, &link, &file].map(|path| check_directory(path).is_ok());
        std::fs::remove_dir_all(&base).unwrap();
        assert_eq!(used, [true, false, false, false]);
        // Its own, and that of nobody but root.
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(check_directory(Path::new("/proc")).is_ok(), is_root);
    }

    #[test]
    fn a_path_is_absolute_and_not_too_long() {
        type File = RuntimeFile<90>;
        let read = |text: &str| serde_json::from_value::<File>(text.into());
        assert_eq!(read("default").unwrap(), File::Default);
        assert_eq!(read("none").unwrap(), File::None);
        assert_eq!(read("/run/a").unwrap(), File::Path("/run/a".into()));
        for wrong in ["", "run/a", "@a", &format!("/{}", "a".repeat(90))] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for word in ["default", "none", "/run/a"] {
            assert_eq!(serde_json::to_value(read(word).unwrap()).unwrap(), word);
        }
    }
}
