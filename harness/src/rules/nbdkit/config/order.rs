//! When config is called.

use layers_trace::Callback::{Config, ConfigComplete, Load};

use crate::rules::check::{Now, Report, Said, given};

/// Config comes after every load and before every config_complete.
pub(super) fn in_its_phase(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let first = |callback| now.history.first_enters(callback).next();
    if now.is(Load) {
        return report.broken(first(Config)?, "all layers are loaded first", "a layer is loaded later");
    }
    given(now.is(Config))?;
    let complete = first(ConfigComplete);
    report.expect(complete.is_none(), complete, "no parameter after config_complete", "another parameter")
}
