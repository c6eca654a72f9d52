//! What is known of the addresses of hosts: each kind, A and AAAA, as it was answered last. Pure.
//!
//! Name servers that answer for one kind and not for the other are common, and so is one host of
//! many whose zone is broken. What is not answered stays as it was; what is answered counts.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RecordType;

/// Records that a name server is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// In lower case.
    pub name: String,
    pub kind: RecordType,
}

/// The addresses of one kind that a host has, which may be none, and how long that is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub all: Vec<IpAddr>,
    pub life: Duration,
}

/// The first of the questions that were not answered, and how many more there are.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Missed {
    question: Question,
    error: Box<NetError>,
    more: usize,
}

/// The last answer to each question that was asked in the last look.
#[derive(Debug, Default)]
pub struct Known {
    answers: HashMap<Question, Addresses>,
}

impl Question {
    pub fn new(name: &str, kind: RecordType) -> Self {
        Self { name: name.to_ascii_lowercase(), kind }
    }

    /// What is to be asked for all addresses of a host.
    pub fn both(name: &str) -> [Self; 2] {
        [RecordType::A, RecordType::AAAA].map(|kind| Self::new(name, kind))
    }
}

impl Missed {
    /// That one question was not answered.
    pub fn one(question: Question, error: NetError) -> Self {
        Self { question, error: Box::new(error), more: 0 }
    }
}

impl Known {
    /// Takes the answers to all questions of a look; those to others are forgotten. What was missed,
    /// if anything was.
    ///
    /// # Errors
    /// When nothing was answered: all is as before.
    pub fn take(
        &mut self,
        answers: impl IntoIterator<Item = (Question, Result<Addresses, NetError>)>,
    ) -> Result<Option<Missed>, Missed> {
        let mut missed: Option<Missed> = None;
        let mut is_answered = false;
        let mut known = HashMap::new();
        for (question, answer) in answers {
            let addresses = match answer {
                Ok(addresses) => {
                    is_answered = true;
                    Some(addresses)
                }
                Err(error) => {
                    match &mut missed {
                        Some(missed) => missed.more += 1,
                        None => missed = Some(Missed::one(question.clone(), error)),
                    }
                    self.answers.get(&question).cloned()
                }
            };
            known.extend(addresses.map(|addresses| (question, addresses)));
        }
        match missed {
            Some(missed) if !is_answered => Err(missed),
            missed => {
                self.answers = known;
                Ok(missed)
            }
        }
    }

    /// All addresses of a host, and how long they are true.
    pub fn of(&self, name: &str) -> (Vec<IpAddr>, Duration) {
        let kinds = Question::both(name);
        let answers = || kinds.iter().filter_map(|question| self.answers.get(question));
        let life = answers().map(|it| it.life).min().unwrap_or(Duration::MAX);
        (answers().flat_map(|it| &it.all).copied().collect(), life)
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records of {}", self.kind, self.name.trim_end_matches('.'))
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.question)?;
        match &*self.error {
            NetError::Timeout => f.write_str("no answer in time")?,
            error => error.fmt(f)?,
        }
        if self.more == 0 { Ok(()) } else { write!(f, ", and {} more", self.more) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = (Question, Result<Addresses, NetError>);

    fn answer(name: &str, kind: RecordType, all: &[&str]) -> Answer {
        let all = all.iter().map(|text| text.parse().unwrap()).collect();
        (Question::new(name, kind), Ok(Addresses { all, life: Duration::from_secs(9) }))
    }

    fn none(name: &str, kind: RecordType) -> Answer {
        (Question::new(name, kind), Err(NetError::Timeout))
    }

    fn shown(known: &Known, name: &str) -> String {
        let all: Vec<_> = known.of(name).0.iter().map(ToString::to_string).collect();
        all.join(" ")
    }

    #[test]
    fn what_is_not_answered_is_as_it_was_and_what_is_answered_counts() {
        let mut known = Known::default();
        let missed = known.take([answer("a", A, &["10.0.0.1"]), none("a", AAAA)]).unwrap();
        let said = missed.map(|it| it.to_string());
        assert_eq!(said.as_deref(), Some("AAAA records of a: no answer in time"));
        assert_eq!(shown(&known, "a"), "10.0.0.1");
        let both = [answer("a", A, &["10.0.0.2"]), answer("A", AAAA, &["::1"])];
        assert!(known.take(both).unwrap().is_none());
        assert_eq!(shown(&known, "a"), "10.0.0.2 ::1");
        for _ in 0..2 {
            let one = [answer("a", A, &["10.0.0.3"]), none("a", AAAA)];
            assert!(known.take(one).unwrap().is_some());
            assert_eq!(shown(&known, "a"), "10.0.0.3 ::1");
        }
        // An answer that there is nothing is an answer.
        assert!(known.take([none("a", A), answer("a", AAAA, &[])]).unwrap().is_some());
        assert_eq!(shown(&known, "a"), "10.0.0.3");
    }

    #[test]
    fn when_nothing_is_answered_nothing_changes() {
        let mut known = Known::default();
        known.take([answer("a", A, &["10.0.0.1"]), answer("a", AAAA, &[])]).unwrap();
        let missed = known.take([none("a", A), none("a", AAAA)]).unwrap_err();
        assert_eq!(missed.to_string(), "A records of a: no answer in time, and 1 more");
        assert_eq!(shown(&known, "a"), "10.0.0.1");
    }

    #[test]
    fn a_host_that_is_asked_for_no_more_is_forgotten() {
        let mut known = Known::default();
        known.take([answer("a", A, &["10.0.0.1"]), answer("b", A, &["10.0.0.2"])]).unwrap();
        known.take([answer("b", A, &["10.0.0.2"])]).unwrap();
        known.take([none("a", A), answer("b", A, &["10.0.0.2"])]).unwrap();
        assert_eq!([shown(&known, "a"), shown(&known, "b")], ["", "10.0.0.2"]);
    }

    use hickory_resolver::proto::rr::RecordType::{A, AAAA};
}
