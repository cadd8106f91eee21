//! A number that there may be no more of, or none.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::ConfigError;

/// How many there may be at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LimitForm", into = "LimitForm")]
pub struct Limit(Option<NonZeroU32>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum LimitForm {
    Word(NoneWord),
    Number(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NoneWord {
    None,
}

impl Limit {
    /// As many as can be.
    pub const NONE: Self = Self(None);

    /// The number, if there is one.
    #[must_use]
    pub fn get(self) -> Option<usize> {
        self.0.and_then(|max| usize::try_from(max.get()).ok())
    }
}

impl TryFrom<u32> for Limit {
    type Error = ConfigError;

    fn try_from(max: u32) -> Result<Self, ConfigError> {
        NonZeroU32::new(max).map(|max| Self(Some(max))).ok_or(ConfigError::LimitOfNothing)
    }
}

impl TryFrom<LimitForm> for Limit {
    type Error = ConfigError;

    fn try_from(form: LimitForm) -> Result<Self, ConfigError> {
        match form {
            LimitForm::Word(NoneWord::None) => Ok(Self::NONE),
            LimitForm::Number(max) => max.try_into(),
        }
    }
}

impl From<Limit> for LimitForm {
    fn from(Limit(max): Limit) -> Self {
        max.map_or(Self::Word(NoneWord::None), |max| Self::Number(max.get()))
    }
}
