//! The JSON schema for editors: that of the types, widened by what the environment may stand for.

use serde_json::{Value, json};

use super::schema::Schema;

/// The schema as an editor needs it: `"${NAME}"` is right wherever a value is.
pub fn document(schema: &Schema) -> Value {
    let mut document = schema.document().clone();
    widen(&mut document);
    document
}

fn widen(node: &mut Value) {
    match node {
        Value::Array(elements) => elements.iter_mut().for_each(widen),
        Value::Object(object) => {
            object.values_mut().for_each(widen);
            if let Some(Value::String(pattern)) = object.get_mut("pattern") {
                *pattern = format!("({pattern})|{REFERENCE}");
            }
            let is_other =
                matches!(object.get("type").and_then(Value::as_str), Some("integer" | "boolean"))
                    || object.contains_key("enum");
            if is_other || object.contains_key("oneOf") {
                widen_to_string(object);
            }
        }
        _ => {}
    }
}

/// What is not any string, and may be one that the environment is read for.
fn widen_to_string(object: &mut serde_json::Map<String, Value>) {
    let mut narrow = std::mem::take(object);
    // What is said about the value stays where editors look for it.
    for name in ["description", "default", "title"] {
        if let Some(said) = narrow.shift_remove(name) {
            object.insert(name.to_owned(), said);
        }
    }
    object.insert("anyOf".to_owned(), json!([narrow, { "type": "string", "pattern": REFERENCE }]));
}

const REFERENCE: &str = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_be_read_from_the_environment() {
        let document = document(Schema::of_config());
        let workers = &document["properties"]["workers"];
        assert_eq!(workers["anyOf"][0]["type"], "integer");
        assert_eq!(workers["anyOf"][0]["maximum"], 1024);
        assert_eq!(workers["anyOf"][1]["pattern"], REFERENCE);
        assert!(workers["description"].is_string());
        let path = document["$defs"]["PathPattern"]["pattern"].as_str().unwrap();
        assert_eq!(path, format!("(^/)|{REFERENCE}"));
    }
}
