//! Checking JSON against the schemas that the daemon hands out.
//!
//! The schemas of the document leave room for fields that later versions may add. Here they are
//! taken at their word: a field that they do not name is a mistake, wherever it is.

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

/// Keywords whose value maps names to schemas of parts of what is described.
const OF_PARTS_BY_NAME: [&str; 2] = ["properties", "patternProperties"];
/// Keywords whose value is a schema of parts of what is described.
const OF_PARTS: [&str; 2] = ["items", "additionalProperties"];
/// What makes something a schema of an object, or of one among others.
const DESCRIBES: [&str; 5] = ["$ref", "allOf", "anyOf", "oneOf", "properties"];

/// The schemas of one document, made strict.
pub struct Schemas {
    /// What schemas refer to.
    document: Map<String, Value>,
}

impl Schemas {
    /// The schemas that an OpenAPI document has.
    ///
    /// # Panics
    /// When it has none.
    pub fn of(openapi: &Value) -> Self {
        let mut components = openapi["components"].clone();
        assert!(components["schemas"].is_object(), "there are schemas");
        close_all(&mut components["schemas"]);
        let document = Map::from_iter([("components".to_owned(), components)]);
        Self { document }
    }

    /// These, and further ones that may refer to them, under `#/$defs`.
    #[must_use]
    pub fn with_defs(mut self, mut defs: Value) -> Self {
        close_all(&mut defs);
        self.document.insert("$defs".to_owned(), defs);
        self
    }

    /// Whether there is a further one of this name.
    pub fn has_def(&self, name: &str) -> bool {
        let defs = self.document.get("$defs");
        defs.is_some_and(|defs| defs.get(name).is_some())
    }

    /// Checks that `value` is what `schema` says.
    ///
    /// # Panics
    /// When it is not, naming `what` it is.
    pub fn check(&self, schema: &Value, value: &Value, what: &str) {
        let validator = self.validator(schema);
        let errors = validator.iter_errors(value).into_errors();
        assert!(errors.is_empty(), "{what}: {errors}\nin {value}");
    }

    /// Whether `value` is what `schema` says.
    pub fn allow(&self, schema: &Value, value: &Value) -> bool {
        self.validator(schema).is_valid(value)
    }

    fn validator(&self, schema: &Value) -> Validator {
        let mut schema = schema.clone();
        close(&mut schema);
        seal(&mut schema);
        let mut document = self.document.clone();
        document.extend(schema.as_object().cloned().expect("a schema"));
        let options = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true);
        let built = options.build(&Value::Object(document));
        built.unwrap_or_else(|error| panic!("{error} in {schema}"))
    }
}

/// A reference to a schema of the API.
pub fn api_type(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Closes the schemas of a map of them.
fn close_all(schemas: &mut Value) {
    let schemas = schemas.as_object_mut().expect("schemas by name");
    schemas.values_mut().for_each(close);
}

/// Forbids what the schemas of all parts below this one do not name. The schema itself stays open:
/// another one may be laid over the same value.
fn close(schema: &mut Value) {
    let Some(keywords) = schema.as_object_mut() else {
        return;
    };
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            (it, Value::Object(parts)) if OF_PARTS_BY_NAME.contains(&it) => {
                parts.values_mut().for_each(close_and_seal);
            }
            (it, part @ Value::Object(_)) if OF_PARTS.contains(&it) => close_and_seal(part),
            ("prefixItems", Value::Array(parts)) => parts.iter_mut().for_each(close_and_seal),
            ("allOf" | "anyOf" | "oneOf", Value::Array(same)) => same.iter_mut().for_each(close),
            _ => {}
        }
    }
}

fn close_and_seal(schema: &mut Value) {
    close(schema);
    seal(schema);
}

/// Forbids what nothing that is laid over a value names.
fn seal(schema: &mut Value) {
    let Some(keywords) = schema.as_object_mut() else {
        return;
    };
    let is_object = keywords.get("type").is_some_and(|it| *it == "object");
    if is_object || DESCRIBES.iter().any(|it| keywords.contains_key(*it)) {
        let key = "unevaluatedProperties".to_owned();
        keywords.entry(key).or_insert(Value::Bool(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_refused_wherever_it_is() {
        let schemas = Schemas::of(&json!({ "components": { "schemas": {
            "Point": {
                "type": "object",
                "required": ["x"],
                "properties": { "x": { "type": "integer" } },
            },
            "Named": { "allOf": [
                { "$ref": "#/components/schemas/Point" },
                {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": { "type": "string" },
                        "from": { "oneOf": [
                            { "type": "null" },
                            { "$ref": "#/components/schemas/Point" },
                        ] },
                        "all": {
                            "type": "array",
                            "items": { "$ref": "#/components/schemas/Point" },
                        },
                        "any": {},
                    },
                },
            ] },
        } } }));
        let check = |value: Value, good: bool| {
            assert_eq!(schemas.allow(&api_type("Named"), &value), good, "{value}");
        };
        check(json!({ "x": 1, "name": "n" }), true);
        check(json!({ "x": 1, "name": "n", "from": null }), true);
        check(json!({ "x": 1, "name": "n", "from": { "x": 2 } }), true);
        check(json!({ "x": 1, "name": "n", "any": { "y": 2 } }), true);
        check(json!({ "x": 1 }), false);
        check(json!({ "x": 1, "name": "n", "y": 1 }), false);
        check(
            json!({ "x": 1, "name": "n", "from": { "x": 2, "y": 1 } }),
            false,
        );
        check(
            json!({ "x": 1, "name": "n", "all": [{ "x": 2, "y": 1 }] }),
            false,
        );
    }
}
