//! Which cells there are: not every combination of everything, but
//!
//! - every client with every server, for everything that users do, over a leg that changes from cell to cell,
//! - every client over every leg that it can have, for a file up, a listing and the file down, with servers that change,
//! - every client with two servers for 50 MB, and with two servers for 500 files in parallel.
//!
//! What depends on three things at once (say, tnftp renaming on Pure-FTPd in active mode) isn't covered: Portcullis
//! keeps its two legs apart, so that pairs are where it can go wrong. The tests below say which pairs are met.

use crate::action::Action;
use crate::cell::Cell;
use crate::client::Client;
use crate::expectation;
use crate::leg::Leg;
use crate::server::Kind;

/// Why a cell is there; each stands in a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Every client with every server.
    Pair,
    /// Every client over every leg.
    Leg,
    /// 50 MB.
    Big,
    /// 500 files.
    Tree,
}

/// Every cell, the longest ones first, so that none is left to run alone.
pub fn cells() -> Vec<(Purpose, Cell)> {
    let mut cells = Vec::new();
    for (number, client) in Client::ALL.into_iter().enumerate() {
        let legs = working_legs(client);
        for (purpose, actions, first) in [
            (Purpose::Tree, &[Action::Tree][..], 0),
            (Purpose::Big, &[Action::Big][..], 3),
        ] {
            for step in [first, first + 5] {
                let server = Kind::ALL[(2 * number + step) % Kind::ALL.len()];
                let leg = legs[(7 * number + step) % legs.len()];
                cells.push((
                    purpose,
                    Cell {
                        client,
                        server,
                        leg,
                        actions,
                    },
                ));
            }
        }
    }
    for (number, client) in Client::ALL.into_iter().enumerate() {
        let legs = working_legs(client);
        for (step, server) in Kind::ALL.into_iter().enumerate() {
            let leg = legs[(3 * number + 7 * step) % legs.len()];
            let actions = &Action::EVERYWHERE;
            cells.push((
                Purpose::Pair,
                Cell {
                    client,
                    server,
                    leg,
                    actions,
                },
            ));
        }
        for (step, leg) in client.legs().into_iter().enumerate() {
            let server = Kind::ALL[(number + step) % Kind::ALL.len()];
            let actions = &[Action::RoundTrip];
            cells.push((
                Purpose::Leg,
                Cell {
                    client,
                    server,
                    leg,
                    actions,
                },
            ));
        }
    }
    cells.sort_by_key(|(purpose, _)| match purpose {
        Purpose::Tree => 0,
        Purpose::Big => 1,
        Purpose::Pair => 2,
        Purpose::Leg => 3,
    });
    cells
}

fn working_legs(client: Client) -> Vec<Leg> {
    let mut legs = client.legs();
    legs.retain(|leg| expectation::cannot_over(client, *leg).is_none());
    legs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leg::{Family, Protection};
    use crate::support::clients::DataMode;

    fn met(wanted: impl Fn(&Cell) -> bool) -> bool {
        cells().iter().any(|(_, cell)| wanted(cell))
    }

    #[test]
    fn every_server_meets_every_kind_of_leg() {
        for server in Kind::ALL {
            for protection in Protection::ALL {
                assert!(
                    met(|cell| cell.server == server && cell.leg.protection == protection),
                    "{server} {protection}"
                );
            }
            for data in [DataMode::Pasv, DataMode::Epsv, DataMode::Active] {
                assert!(
                    met(|cell| cell.server == server && cell.leg.data == data),
                    "{server} {data:?}"
                );
            }
            for family in [Family::V4, Family::V6] {
                assert!(
                    met(|cell| cell.server == server && cell.leg.family == family),
                    "{server} {family:?}"
                );
            }
        }
    }

    #[test]
    fn no_cell_is_there_twice() {
        let cells = cells();
        for (number, (purpose, cell)) in cells.iter().enumerate() {
            let again = cells[..number].iter().any(|(other, before)| {
                other == purpose
                    && before.client == cell.client
                    && before.server == cell.server
                    && before.leg == cell.leg
            });
            assert!(!again, "{cell}");
        }
    }
}
