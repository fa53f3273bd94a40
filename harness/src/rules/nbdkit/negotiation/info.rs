//! nbdkit-plugin(3), `.block_size` and `.export_description`: asked when the client wants to know.

use layers_trace::Callback::{self, BlockSize, ExportDescription};
use layers_trace::{Event, Kind, Operation};

use super::asked_by_server;
use super::bad_answer::bad_answer;
use crate::history::Request;
use crate::protocol::info;
use crate::rules::check::{Check, Now, Party, Report, Rule, at, by, enters, given};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "nego.block_size.on-request",
        statement: "block_size is asked only for a client that requests NBD_INFO_BLOCK_SIZE.",
        clause: "nbdkit-plugin(3), .block_size",
        antecedent: "a client that selects an export, known by its log, and a layer with block_size",
        good: r#"NBD_OPT_GO "a" types=BLOCK_SIZE { open prepare queries block_size = 512,4096,65536 } = 0 info=EXPORT|BLOCK_SIZE sizes=512,4096,65536"#,
        bad: r#"NBD_OPT_GO "a" { open prepare L0.block_size = 512,4096,65536 }"#,
        fix: "ask for block sizes while answering that request, and not otherwise",
        check: by!(on_request(BlockSize, info::BLOCK_SIZE)),
        ..Rule::REQUIRED.since(1, 29, 16)
    },
    Rule {
        id: "nego.block_size.validity",
        statement: "A plugin's block sizes are all 0, or fit each other and the protocol; others drop the connection.",
        clause: "nbdkit-plugin(3), .block_size",
        antecedent: "a plugin that is asked for its block sizes",
        good: r#"NBD_OPT_GO "a" types=BLOCK_SIZE { open prepare queries L0.block_size = 512,4096,65536 } = 0 info=EXPORT|BLOCK_SIZE sizes=512,4096,65536"#,
        bad: r#"L0 target="p.so"; NBD_OPT_GO "a" types=BLOCK_SIZE { open prepare queries L0.block_size = 3,4096,65536 }"#,
        fix: "return powers of two: minimum up to 64K, preferred 512 to 32M, and a maximum that the minimum divides",
        check: by!({
            let is_bad = |exit: &Event| exit.result() == 0 && !are_valid(exit.block_size());
            bad_answer(BlockSize, is_bad, "block sizes that the manual allows")
        }),
        ..Rule::REQUIRED.since(1, 29, 16).of(Party::Plugin)
    },
    Rule {
        id: "nego.description.on-request",
        statement: "export_description is asked only for a client that requests NBD_INFO_DESCRIPTION.",
        clause: "nbdkit-plugin(3), .export_description",
        antecedent: "a client that selects an export, known by its log, and a layer with export_description",
        good: r#"NBD_OPT_GO "a" types=DESCRIPTION { open prepare queries export_description = "d" } = 0 info=EXPORT|DESCRIPTION description="d""#,
        bad: r#"NBD_OPT_GO "a" { open prepare L0.export_description = "d" }"#,
        fix: "ask for a description while answering that request, and not otherwise",
        check: by!(on_request(ExportDescription, info::DESCRIPTION)),
        ..Rule::REQUIRED.since(1, 23, 6)
    },
];

/// Bounds of nbdkit-plugin(3), .block_size, and of the protocol ("Block size constraints").
pub(in super::super) fn are_valid((minimum, preferred, maximum): (u32, u32, u32)) -> bool {
    if (minimum, preferred, maximum) == (0, 0, 0) {
        return true;
    }
    let minimum_fits = minimum.is_power_of_two() && minimum <= 64 << 10;
    let preferred_fits = preferred.is_power_of_two() && (512..=32 << 20).contains(&preferred);
    let maximum_fits = maximum == u32::MAX || maximum.checked_rem(minimum) == Some(0);
    minimum_fits && preferred_fits && maximum_fits && minimum <= preferred && preferred <= maximum
}

/// The client asks for this NBD_INFO type.
fn asks_for(info: u64, request: &Request) -> bool {
    matches!(request.operation, Operation::Info | Operation::Go) && request.event.b & info != 0
}

/// A question that the server asks only because the client asks for this NBD_INFO type.
fn on_request(query: Callback, info: u64) -> impl Check {
    at(enters(&[query]).notes(&[Kind::Reply]), move |now: &Now<'_>, report: &mut Report<'_>| {
        if now.event.kind == Kind::Reply {
            // The client has its answer, and nobody was asked what it did not want to know.
            given(now.succeeds(Operation::Info) || now.succeeds(Operation::Go))?;
            let client = now.client().filter(|client| client.connection.is_some())?;
            let option = client.last_option.as_ref().filter(|option| !asks_for(info, option));
            return report.exercised_if(option.is_some() && now.history.outermost(query).is_some());
        }
        now.call.filter(|call| asked_by_server(now.history, call) && now.history.has_client_log())?;
        let option = now.served()?.last_option.as_ref();
        let holds = option.is_some_and(|option| asks_for(info, option));
        let expected = format!("{query} is asked only at the client's request");
        report.expect(holds, option, expected, "the client has not asked for it")
    })
}

#[cfg(test)]
mod tests {
    use super::are_valid;

    #[test]
    fn block_sizes_fit_each_other() {
        for good in [(1, 512, u32::MAX), (512, 4096, 1 << 20), (65536, 65536, 65536 * 3)] {
            assert!(are_valid(good), "{good:?}");
        }
        for bad in [(0, 4096, 4096), (3, 4096, u32::MAX), (1 << 17, 1 << 17, 1 << 17), (1, 256, 4096)] {
            assert!(!are_valid(bad), "{bad:?}");
        }
        for bad in [(1, 4096, 512), (4096, 512, u32::MAX), (512, 4096, 5000), (1, 1 << 26, u32::MAX)] {
            assert!(!are_valid(bad), "{bad:?}");
        }
    }
}
