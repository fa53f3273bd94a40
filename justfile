# Short ways to what ci/test does in full. `just` lists them.

default:
    @just --list

# Formats the code.
fmt:
    cargo fmt --all

# Checks formats and lints, as CI does.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Runs the tests that start no server or few.
quick:
    cargo test --workspace --locked --lib
    cargo test --locked -p layers --test house --test ids --test catalogue

# Runs everything, as CI does.
test:
    ci/test

# Brings the pages and tables up to date that are made from the code.
pages:
    cargo run -q -p layers -- rules --markdown > docs/catalogue.md
    UPDATE_DOCUMENTS=1 cargo test -p layers --test documents --test reports --test ids
    LAYERS_UPDATE=1 cargo test -p layers --test mutations table

# Stores the trees of calls anew: read the difference.
trees:
    INSTA_UPDATE=always cargo test -p layers --test trees

# Looks at licences, advisories and sources of what is depended on (needs cargo-deny).
deny:
    cargo deny check
