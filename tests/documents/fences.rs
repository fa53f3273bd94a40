//! What a document shows between two lines of three backticks.

/// One such part.
#[derive(Debug)]
pub(crate) struct Fence {
    /// What stands behind the opening backticks.
    pub(crate) language: String,
    /// The lines, each with its end.
    pub(crate) body: String,
}

/// All of a Markdown text, in their order.
pub(crate) fn fences(text: &str) -> Vec<Fence> {
    let mut lines = text.lines();
    let mut fences = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```");
            let body = inside.map(|line| format!("{line}\n")).collect();
            fences.push(Fence { language: language.to_owned(), body });
        }
    }
    fences
}
