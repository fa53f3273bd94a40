//! nbdkit-plugin(3) and nbdkit-filter(3): what a connection is made of, from `preconnect` to the last `close`.

mod by_server;
pub mod close;
pub mod default_export;
pub mod disconnect;
pub mod finalize;
pub mod list;
mod nesting;
pub mod open;
pub mod open_fails;
pub mod preconnect;
pub mod prepare;
pub(super) mod survival;
pub mod tls;

use crate::rules::check::Rule;
use by_server::{by_server, negotiates};

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[
    preconnect::RULES,
    list::RULES,
    default_export::RULES,
    tls::RULES,
    open::RULES,
    open_fails::RULES,
    prepare::RULES,
    finalize::RULES,
    close::RULES,
    disconnect::RULES,
];

#[cfg(test)]
mod tests {
    use crate::rules::testing::*;
    use layers_trace::{Callback, Operation};

    /// Threads of two connections.
    const THREADS: [u32; 2] = [103, 104];

    /// Clients 8 and 9 connect, one after the other has got its greeting or both at once; then 9 sends NBD_OPT_LIST.
    fn two_clients(at_once: bool) -> Script {
        let mut script = Script::new(&run(0));
        script.start(0);
        let mut greetings = Vec::new();
        if at_once {
            greetings.extend([8, 9].map(|client| script.request(client, Operation::Connect).position));
        }
        for (nth, tid) in THREADS.into_iter().enumerate() {
            script.tid = tid;
            if !at_once {
                greetings.push(script.request(8 + nth as u32, Operation::Connect).position);
            }
            script.call(0, Callback::Preconnect, 0);
            if !at_once {
                script.reply(greetings[nth], 0);
            }
        }
        if at_once {
            greetings.iter().for_each(|greeting| _ = script.reply(*greeting, 0));
        }
        script.request(9, Operation::List);
        script
    }

    #[test]
    fn clients_that_come_one_by_one_are_known_and_those_that_come_at_once_are_not() {
        let connections = |script| {
            let history = judged(script).history;
            [8, 9].map(|client| history.client(client).unwrap().connection)
        };
        let [first, second] = connections(two_clients(false));
        assert!(first.is_some() && second.is_some() && first != second);
        assert_eq!(connections(two_clients(true)), [None, None]);
    }

    #[test]
    fn a_list_for_the_wrong_client_is_seen_where_clients_are_known() {
        const RULE: &str = "conn.list.only-on-request";
        let listing = |at_once| {
            let mut script = two_clients(at_once);
            script.tid = THREADS[0];
            script.call(0, Callback::ListExports, 0);
            script
        };
        rejects(RULE, listing(false));
        assert!(!broken(listing(true)).contains(&RULE));
    }
}
