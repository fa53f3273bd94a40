//! The places of a source file that each operator can change. Only bodies of functions are looked at, and in them nothing
//! that is only there for people: messages, assertions, what `--dump-plugin` and `--help` print.

use std::collections::HashSet;

use tree_sitter::{Node, Parser};

use crate::place::Place;

/// Calls in which nothing is changed, and which are not deleted.
const FOR_PEOPLE: [&str; 9] = [
    "nbdkit_debug",
    "nbdkit_error",
    "nbdkit_verror",
    "printf",
    "fprintf",
    "perror",
    "assert",
    "abort",
    "exit",
];

/// What gives back memory, descriptors and the like.
const GIVES_BACK: [&str; 6] = ["free", "close", "fclose", "closedir", "munmap", "nbdkit_extents_free"];
const LOCKS: [&str; 7] = [
    "ACQUIRE_LOCK_FOR_CURRENT_SCOPE",
    "ACQUIRE_RDLOCK_FOR_CURRENT_SCOPE",
    "ACQUIRE_WRLOCK_FOR_CURRENT_SCOPE",
    "pthread_mutex_lock",
    "pthread_mutex_unlock",
    "pthread_rwlock_wrlock",
    "pthread_rwlock_unlock",
];

/// Returns all places of `source`, which is the text of `file`.
pub fn places(file: &str, source: &str) -> Result<Vec<Place>, String> {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_c::LANGUAGE.into()).map_err(|error| error.to_string())?;
    let tree = parser.parse(source, None).ok_or_else(|| format!("{file}: not parsed"))?;
    let mut finder = Finder { file, source, integers: HashSet::new(), pointer: false, places: Vec::new() };
    finder.functions(tree.root_node());
    Ok(finder.places)
}

struct Finder<'a> {
    file: &'a str,
    source: &'a str,
    /// Variables of the function whose type is an integer.
    integers: HashSet<String>,
    /// Whether the function returns a pointer.
    pointer: bool,
    places: Vec<Place>,
}

impl<'a> Finder<'a> {
    fn text(&self, node: Node<'_>) -> &'a str {
        self.source.get(node.byte_range()).unwrap_or("")
    }

    fn functions(&mut self, node: Node<'_>) {
        if node.kind() == "function_definition" {
            let declarator = node.child_by_field_name("declarator");
            let heading = declarator.map_or("", |declarator| self.text(declarator));
            if heading.contains("dump_plugin") || heading.contains("_help") || heading.contains("_debug") {
                return;
            }
            self.pointer = declarator.is_some_and(|declarator| declarator.kind() == "pointer_declarator");
            self.integers.clear();
            self.declared(node);
            if let Some(body) = node.child_by_field_name("body") {
                self.within(body);
            }
            return;
        }
        for child in children(node) {
            self.functions(child);
        }
    }

    /// Notes the integers that are declared in the function.
    fn declared(&mut self, node: Node<'_>) {
        if matches!(node.kind(), "declaration" | "parameter_declaration") {
            let kind = node.child_by_field_name("type").map_or("", |kind| self.text(kind));
            let whole =
                kind.ends_with("_t") || kind.contains("int") || kind.contains("unsigned") || kind == "long";
            if whole {
                for child in children(node) {
                    let name = match child.kind() {
                        "identifier" => Some(child),
                        "init_declarator" => child.child_by_field_name("declarator"),
                        _ => None,
                    };
                    if let Some(name) = name.filter(|name| name.kind() == "identifier") {
                        self.integers.insert(self.text(name).to_owned());
                    }
                }
            }
        }
        for child in children(node) {
            self.declared(child);
        }
    }

    fn add(&mut self, operator: &'static str, node: Node<'_>, after: impl Into<String>) {
        self.replace(operator, node, node, after);
    }

    fn replace(&mut self, operator: &'static str, first: Node<'_>, last: Node<'_>, after: impl Into<String>) {
        let bytes = first.start_byte()..last.end_byte();
        let before = self.source.get(bytes.clone()).unwrap_or("").to_owned();
        let (line, after) = (first.start_position().row + 1, after.into());
        let (name, file) = (String::new(), self.file.to_owned());
        self.places.push(Place { name, file, line, bytes, operator, before, after });
    }

    fn within(&mut self, node: Node<'_>) {
        if node.is_error() || self.is_for_people(node) {
            return;
        }
        match node.kind() {
            "binary_expression" => self.binary(node),
            "assignment_expression" => self.assigned(node),
            "update_expression" => self.updated(node),
            "number_literal" => self.number(node),
            "if_statement" | "while_statement" => self.condition(node),
            "expression_statement" => self.statement(node),
            "declaration" => self.cleanup(node),
            "return_statement" => self.returned(node),
            "argument_list" => self.arguments(node),
            _ => {}
        }
        for child in children(node) {
            self.within(child);
        }
    }

    fn is_for_people(&self, node: Node<'_>) -> bool {
        let condition = node.child_by_field_name("condition");
        node.kind() == "call_expression" && FOR_PEOPLE.contains(&self.called(node))
            || condition.is_some_and(|condition| self.text(condition).contains("_debug_"))
            || node.kind().starts_with("preproc_")
                && !node.kind().starts_with("preproc_if")
                && node.kind() != "preproc_else"
    }

    fn called(&self, call: Node<'_>) -> &'a str {
        call.child_by_field_name("function").map_or("", |function| self.text(function))
    }

    fn binary(&mut self, node: Node<'_>) {
        let Some(sign) = node.child_by_field_name("operator") else { return };
        let text = self.text(sign);
        let other = |pairs: &[(&str, &'static str)]| {
            pairs.iter().find(|(before, _)| *before == text).map(|(_, after)| *after)
        };
        let relation = [("<", "<="), ("<=", "<"), (">", ">="), (">=", ">"), ("==", "!="), ("!=", "==")];
        let arithmetic = [
            ("+", "-"),
            ("-", "+"),
            ("*", "/"),
            ("/", "*"),
            ("%", "/"),
            ("<<", ">>"),
            (">>", "<<"),
            ("&", "|"),
            ("|", "&"),
        ];
        let logic = [("&&", "||"), ("||", "&&")];
        for (operator, pairs) in [("relation", &relation[..]), ("arithmetic", &arithmetic), ("logic", &logic)]
        {
            if let Some(after) = other(pairs) {
                self.add(operator, sign, after);
            }
        }
    }

    fn assigned(&mut self, node: Node<'_>) {
        let Some(sign) = node.child_by_field_name("operator") else { return };
        let after = match self.text(sign) {
            "+=" => "-=",
            "-=" => "+=",
            "|=" => "&=",
            "&=" => "|=",
            _ => return,
        };
        self.add("assign", sign, after);
    }

    fn updated(&mut self, node: Node<'_>) {
        let Some(sign) = node.child_by_field_name("operator") else { return };
        // Not in the head of a loop, which would then never end, or run through memory.
        if node.parent().is_some_and(|parent| parent.kind() == "for_statement") {
            return;
        }
        self.add("assign", sign, if self.text(sign) == "++" { "--" } else { "++" });
    }

    /// One more, or one less where that is not negative, in turns of where the number stands.
    fn number(&mut self, node: Node<'_>) {
        let text = self.text(node);
        let Ok(value) = text.parse::<u64>() else { return };
        let after = if value > 0 && node.start_byte().is_multiple_of(2) { value - 1 } else { value + 1 };
        self.add("constant", node, after.to_string());
    }

    fn condition(&mut self, node: Node<'_>) {
        let Some(condition) = node.child_by_field_name("condition") else { return };
        let text = self.text(condition);
        // A plain negation loses it again.
        let after = match text.strip_prefix("(!") {
            Some(rest) if !rest.contains("&&") && !rest.contains("||") => format!("({rest}"),
            _ => format!("(!{text})"),
        };
        self.add("negate", condition, after);
    }

    fn statement(&mut self, node: Node<'_>) {
        let Some(inner) = node.named_child(0) else { return };
        if inner.kind() == "call_expression" {
            let called = self.called(inner);
            if FOR_PEOPLE.contains(&called) {
                return;
            }
            let gives_back =
                GIVES_BACK.contains(&called) || called.ends_with("_free") || called.ends_with("_reset");
            let operator = if LOCKS.contains(&called) {
                "lock"
            } else if gives_back {
                "free"
            } else {
                "delete"
            };
            self.add(operator, node, ";");
        } else if matches!(inner.kind(), "assignment_expression" | "update_expression") {
            self.add("delete", node, ";");
        }
    }

    /// The attribute by which a variable is freed when it goes out of scope.
    fn cleanup(&mut self, node: Node<'_>) {
        let text = self.text(node);
        if let Some(rest) = text.strip_prefix("CLEANUP_") {
            let end =
                rest.find(|character: char| !character.is_ascii_uppercase() && character != '_').unwrap_or(0);
            let bytes = node.start_byte()..node.start_byte() + "CLEANUP_".len() + end;
            let before = self.source.get(bytes.clone()).unwrap_or("").to_owned();
            let line = node.start_position().row + 1;
            let (name, file, after) = (String::new(), self.file.to_owned(), String::new());
            self.places.push(Place { name, file, line, bytes, operator: "free", before, after });
        }
    }

    fn returned(&mut self, node: Node<'_>) {
        let Some(value) = node.named_child(0) else { return };
        let text = self.text(value);
        let after = match text {
            "0" => "-1",
            "-1" | "1" | "true" => "0",
            "false" => "1",
            "NULL" | "NBDKIT_HANDLE_NOT_NEEDED" => return,
            _ if self.pointer => "NULL",
            _ => "0",
        };
        self.add("return", value, after);
    }

    fn arguments(&mut self, node: Node<'_>) {
        let arguments: Vec<Node<'_>> = named_children(node);
        for argument in &arguments {
            let text = self.text(*argument);
            if text == "flags" || text.starts_with("flags |") || text.starts_with("flags &") {
                self.add("flags", *argument, "0");
            }
        }
        for pair in arguments.windows(2) {
            let [one, other] = pair else { continue };
            if self.is_integer(*one) && self.is_integer(*other) && self.text(*one) != self.text(*other) {
                let between =
                    self.source.get(one.end_byte()..other.start_byte()).unwrap_or(", ").replace('\n', " ");
                let after = format!("{}{between}{}", self.text(*other), self.text(*one));
                self.replace("swap", *one, *other, after);
            }
        }
    }

    fn is_integer(&self, node: Node<'_>) -> bool {
        match node.kind() {
            "number_literal" => true,
            "identifier" => self.integers.contains(self.text(node)),
            "binary_expression" | "parenthesized_expression" => {
                named_children(node).into_iter().all(|child| self.is_integer(child))
            }
            _ => false,
        }
    }
}

fn children(node: Node<'_>) -> Vec<Node<'_>> {
    node.children(&mut node.walk()).collect()
}

fn named_children(node: Node<'_>) -> Vec<Node<'_>> {
    node.named_children(&mut node.walk()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes of a function's body, as `operator: before → after`.
    fn changes(body: &str) -> Vec<String> {
        let source = format!(
            "static int f (void *p, uint32_t count, uint64_t offset, uint32_t flags, int *err)\n{{\n{body}\n}}\n"
        );
        let places = places("f.c", &source).unwrap();
        places.iter().map(|p| format!("{}: {} → {}", p.operator, p.before, p.after)).collect()
    }

    #[test]
    fn each_operator_finds_its_places() {
        assert_eq!(
            changes("if (count < 3) return -1;"),
            ["negate: (count < 3) → (!(count < 3))", "relation: < → <=", "constant: 3 → 2", "return: -1 → 0",]
        );
        assert_eq!(
            changes("count = offset + count;"),
            ["delete: count = offset + count; → ;", "arithmetic: + → -"]
        );
        assert_eq!(changes("if (!p || count) g (p);")[1], "logic: || → &&");
        assert_eq!(changes("if (!p) p = 0;")[0], "negate: (!p) → (p)");
        assert_eq!(
            changes("return next->zero (next, count, offset, flags, err);"),
            [
                "return: next->zero (next, count, offset, flags, err) → 0",
                "flags: flags → 0",
                "swap: count, offset → offset, count",
                "swap: offset, flags → flags, offset",
            ]
        );
        assert_eq!(changes("free (p);"), ["free: free (p); → ;"]);
        assert_eq!(changes("CLEANUP_FREE char *s = NULL;"), ["free: CLEANUP_FREE → "]);
        assert_eq!(
            changes("ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);"),
            ["lock: ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock); → ;"]
        );
        assert_eq!(changes("count -= 512; offset++;")[1], "assign: -= → +=");
    }

    #[test]
    fn what_is_there_for_people_is_left_alone() {
        assert!(changes("nbdkit_debug (\"%d\", 1 + 2);").is_empty());
        assert!(changes("nbdkit_error (\"%d\", 1 + 2);").is_empty());
        assert!(changes("assert (count < 3);").is_empty());
        assert!(changes("if (f_debug_verbose) count = 1;").is_empty());
        assert!(places("f.c", "static void f_dump_plugin (void) { g (1 + 2); }").unwrap().is_empty());
        assert!(places("f.c", "static struct plugin plugin = { .version = 1 + 2 };").unwrap().is_empty());
    }
}
