//! JSON Schemas of the lines, made from their types: what `schemas/` holds.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::line::Word;
use super::{conform, traces, validate};
use crate::outcome::Verdict;

/// Each schema with the name of its file in `schemas/`.
pub fn all() -> [(&'static str, Schema); 3] {
    [
        ("conform.ndjson.schema.json", of::<conform::ConformLine<'_>>(conform::VERSION)),
        ("traces.ndjson.schema.json", of::<traces::Line<'_>>(traces::VERSION)),
        ("validate.ndjson.schema.json", of::<validate::ValidateLine<'_>>(validate::VERSION)),
    ]
}

/// Of what is written: what is always there is required, and nothing else may be.
fn of<T: JsonSchema>(version: u32) -> Schema {
    let mut schema =
        SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    schema
        .insert("$comment".to_owned(), format!("format {version}, made from the types of the report").into());
    schema
}

impl JsonSchema for Word {
    fn schema_name() -> Cow<'static, str> {
        "Verdict".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let why = String::new;
        let all = [
            Verdict::Pass,
            Verdict::Fail,
            Verdict::Warn,
            Verdict::NotApplicable(why()),
            Verdict::Skipped(why()),
            Verdict::Crash(why()),
            Verdict::Hang(why()),
            Verdict::Inconclusive(why()),
            Verdict::HarnessError(why()),
        ];
        json_schema!({"type": "string", "enum": all.each_ref().map(Verdict::word)})
    }
}
