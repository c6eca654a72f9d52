//! Who has to give clients up, and how many may go now. Pure: counts and the time go in.
//!
//! A server's share is its part, by weight, of all tunnels of the servers that count: of those that
//! take clients, and those that are to be emptied. Who was told to go and has not come back yet
//! counts as if it were there still, for [`RETURN`]: if not, the shares would shrink with each one
//! that is moved, and in the end everybody would be on the way.

use std::time::Duration;

use serde::Serialize;
use tidewire_runtime::rate::{Meter, Pace, Rate};

/// A server as the decision sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Tells it from the others.
    pub id: u32,
    pub role: Role,
    /// Tunnels that have not been told to go.
    pub members: u32,
}

/// What a server is to those who are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes clients: its weight as it is now, which may still grow, that which it will have,
    /// and for how many more it has room. The unit of a weight is the caller's.
    Takes { weight: u32, full: u32, room: u32 },
    /// All are to leave it, as far as there is somewhere to go.
    Empties,
    /// All are to leave it, wherever they go.
    IsDown,
    /// Nobody comes and nobody goes.
    Keeps,
}

/// Why clients are told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Why {
    Rebalance,
    ServerDown,
}

/// So many may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The server, by its place among the standings.
    pub index: usize,
    pub why: Why,
    pub most: u32,
}

/// What has become of it, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Begun,
    /// So many were told to go.
    Over(u64),
    /// It does not help: clients come back to where they were.
    Futile(u64),
}

/// What the decision is held to.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// `None` when only `on_down` moves clients.
    pub band: Option<f64>,
    pub delay: Duration,
    pub rate: Rate,
    /// How often the decision is asked for, at least, while there is something to do.
    pub tick: Duration,
}

#[derive(Debug)]
pub struct Decision {
    terms: Terms,
    pace: Option<Pace>,
    meter: Meter,
    peaks: Peaks,
    /// The servers that take clients, and those that are to be emptied, as they were last.
    seen: Vec<(u32, Option<u32>)>,
    /// Since when the servers have been apart, with the same servers.
    since: Option<Duration>,
    episode: Episode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Episode {
    None,
    /// So many were told to go.
    Moving(u64),
    /// Until servers come or go.
    GivenUp,
}

impl Decision {
    pub fn new(terms: Terms) -> Self {
        let Rate { count, per } = terms.rate;
        // What a tick's worth of time allows may go at once, and no more.
        let burst = f64::from(count) * terms.tick.as_secs_f64() / per.as_secs_f64();
        let pace = Pace::new(count.into(), per, burst.ceil() as u64);
        Self {
            terms,
            pace,
            meter: Meter::default(),
            peaks: Peaks::default(),
            seen: Vec::new(),
            since: None,
            episode: Episode::None,
        }
    }

    /// Whether it wants to be asked every tick.
    pub fn is_busy(&self) -> bool {
        matches!(self.episode, Episode::Moving(_))
    }

    /// Who may go now, and what has become of it.
    pub fn decide(&mut self, now: Duration, all: &[Standing]) -> (Vec<Quota>, Option<News>) {
        let down = all.iter().enumerate().filter(|(_, it)| it.role == Role::IsDown);
        let mut wishes: Vec<Wish> = down.map(|(index, it)| Wish::down(index, it)).collect();
        let news = self.rebalance(now, all, &mut wishes);
        let quotas = self.grant(now, wishes);
        if let Episode::Moving(moved) = &mut self.episode {
            let told = quotas.iter().filter(|quota| quota.why == Why::Rebalance);
            *moved += told.map(|quota| u64::from(quota.most)).sum::<u64>();
        }
        (quotas, news)
    }

    /// Adds who has more than its share, when the time for that has come.
    fn rebalance(
        &mut self,
        now: Duration,
        all: &[Standing],
        wishes: &mut Vec<Wish>,
    ) -> Option<News> {
        let band = self.terms.band?;
        let counting = all.iter().filter(|it| it.role != Role::Keeps && it.role != Role::IsDown);
        let present = counting.clone().map(|it| u64::from(it.members)).sum();
        let total = self.peaks.note(now, present);
        let shares = Shares::of(all, total);
        let seen: Vec<_> = counting.map(|it| (it.id, it.role.full_weight())).collect();
        if seen != self.seen {
            self.seen = seen;
            self.since = None;
            if self.episode == Episode::GivenUp {
                self.episode = Episode::None;
            }
        }
        if !shares.are_apart(all, band) {
            self.since = None;
            return match std::mem::replace(&mut self.episode, Episode::None) {
                Episode::Moving(moved) => Some(News::Over(moved)),
                _ => None,
            };
        }
        let since = *self.since.get_or_insert(now);
        if now < since + self.terms.delay || self.episode == Episode::GivenUp {
            return None;
        }
        if let Episode::Moving(moved) = self.episode
            && moved > FUTILE * total + FUTILE
        {
            self.episode = Episode::GivenUp;
            return Some(News::Futile(moved));
        }
        let on_their_way = total - present;
        shares.wish(all, on_their_way, wishes);
        let is_new = self.episode == Episode::None;
        if is_new {
            self.episode = Episode::Moving(0);
        }
        is_new.then_some(News::Begun)
    }

    /// Gives the wishes what the rate allows, one by one, the greatest first.
    fn grant(&mut self, now: Duration, mut wishes: Vec<Wish>) -> Vec<Quota> {
        let Some(pace) = self.pace else { return Vec::new() };
        // Time begins at 1: at 0 there is no past in which a burst could have been saved.
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).saturating_add(1 << 40);
        while let Some(wish) = wishes.iter_mut().max_by_key(|wish| wish.left)
            && wish.left > 0
            && self.meter.take(&pace, 1, now).is_ok()
        {
            wish.left -= 1;
            wish.granted += 1;
        }
        let granted = wishes.into_iter().filter(|wish| wish.granted > 0);
        granted.map(|it| Quota { index: it.index, why: it.why, most: it.granted }).collect()
    }
}

impl Role {
    fn weight(self) -> Option<u32> {
        match self {
            Self::Takes { weight, .. } => Some(weight),
            _ => None,
        }
    }

    fn full_weight(self) -> Option<u32> {
        match self {
            Self::Takes { full, .. } => Some(full),
            _ => None,
        }
    }
}

/// What would be right for each server that takes clients.
struct Shares {
    /// Tunnels for a weight of 1.
    unit: f64,
}

impl Shares {
    fn of(all: &[Standing], total: u64) -> Self {
        let weights: u64 = all.iter().filter_map(|it| it.role.weight()).map(u64::from).sum();
        Self { unit: if weights == 0 { f64::INFINITY } else { total as f64 / weights as f64 } }
    }

    /// Of a server of this weight, rounded up: a client cannot be shared.
    fn share(&self, weight: u32) -> u32 {
        (self.unit * f64::from(weight)).ceil() as u32
    }

    /// Whether there is something to do: a server to be emptied, or two that are further apart than
    /// the band allows, one of which has more than its share.
    fn are_apart(&self, all: &[Standing], band: f64) -> bool {
        let takers = || all.iter().filter_map(|it| Some((it.members, it.role.weight()?)));
        if takers().next().is_none() {
            return false; // There is nowhere to go.
        }
        if all.iter().any(|it| it.role == Role::Empties && it.members > 0) {
            return true;
        }
        let each = || takers().map(|(members, weight)| f64::from(members) / f64::from(weight));
        let (least, most) = (each().fold(f64::INFINITY, f64::min), each().fold(0.0, f64::max));
        let has_more = takers().any(|(members, weight)| members > self.share(weight));
        most > least * (1.0 + band) && has_more
    }

    /// Who has how many too many, as far as there is room for them elsewhere that is not meant for
    /// those who are on their way.
    fn wish(&self, all: &[Standing], on_their_way: u64, wishes: &mut Vec<Wish>) {
        let room_of = |standing: &Standing| match standing.role {
            Role::Takes { weight, room, .. } => {
                u64::from(self.share(weight).saturating_sub(standing.members).min(room))
            }
            _ => 0,
        };
        let room: u64 = all.iter().map(room_of).sum();
        let room = u32::try_from(room.saturating_sub(on_their_way)).unwrap_or(u32::MAX);
        let first = wishes.len();
        for (index, standing) in all.iter().enumerate() {
            let excess = match standing.role {
                Role::Takes { weight, .. } => standing.members.saturating_sub(self.share(weight)),
                Role::Empties => standing.members,
                Role::IsDown | Role::Keeps => 0,
            };
            wishes.push(Wish { index, why: Why::Rebalance, left: excess, granted: 0 });
        }
        // The greatest give way first when there is not room for all.
        let mut over = wishes[first..].iter().map(|it| u64::from(it.left)).sum::<u64>();
        over = over.saturating_sub(room.into());
        while over > 0 {
            let Some(greatest) = wishes[first..].iter_mut().max_by_key(|it| it.left) else { break };
            let less = over.min(u64::from(greatest.left).div_ceil(2).max(1));
            greatest.left -= less as u32;
            over -= less;
        }
    }
}

/// How many a server should give up.
#[derive(Debug)]
struct Wish {
    index: usize,
    why: Why,
    left: u32,
    granted: u32,
}

impl Wish {
    fn down(index: usize, standing: &Standing) -> Self {
        Self { index, why: Why::ServerDown, left: standing.members, granted: 0 }
    }
}

/// The most that there were within the last one to two [`RETURN`].
#[derive(Debug, Default)]
struct Peaks {
    before: u64,
    current: u64,
    begun: Duration,
}

impl Peaks {
    fn note(&mut self, now: Duration, count: u64) -> u64 {
        if now >= self.begun + RETURN {
            self.before = std::mem::take(&mut self.current);
            self.begun = now;
        }
        self.current = self.current.max(count);
        self.current.max(self.before)
    }
}

/// How long who was told to go is waited for.
const RETURN: Duration = Duration::from_secs(30);

/// With servers taken in turn, each client that is moved gets an overfull one again and again: it
/// takes about as many moves as there are tunnels. This many times that is in vain.
const FUTILE: u64 = 4;

#[cfg(test)]
mod tests;
