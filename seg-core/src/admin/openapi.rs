//! `/openapi.json`: OpenAPI 3.1, made from the table of endpoints and a file of schemas.

use axum::Json;
use serde_json::{Map, Value, json};

use super::endpoints::{Access, Endpoint, endpoints};

/// The schemas that the table names.
const SCHEMAS: &str = include_str!("schemas.json");

/// Answers the description.
pub(super) async fn answer() -> Json<Value> {
    Json(describe(&endpoints()))
}

fn describe(endpoints: &[Endpoint]) -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints {
        let path = paths
            .entry(endpoint.path)
            .or_insert_with(|| Value::Object(Map::new()));
        let method = endpoint.method.as_str().to_ascii_lowercase();
        if let Some(path) = path.as_object_mut() {
            path.insert(method, operation(endpoint));
        }
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "seg admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Which device may have mail, and how the gateway fares.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut operation = json!({
        "summary": endpoint.summary,
        "parameters": parameters(endpoint),
        "responses": responses(endpoint),
        "security": match endpoint.access {
            Access::Open => json!([]),
            Access::Token(_) => json!([{ "token": [] }]),
        },
    });
    if let Some((media, schema)) = endpoint.body {
        operation["requestBody"] = json!({ "required": true, "content": content(media, schema) });
    }
    operation
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let in_path = endpoint
        .path
        .split('/')
        .flat_map(|segment| segment.split(':'))
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = endpoint
        .query
        .iter()
        .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } }));
    in_path.chain(in_query).collect()
}

fn responses(endpoint: &Endpoint) -> Value {
    let (media, schema) = endpoint.answer;
    let mut responses = Map::new();
    let done = json!({ "description": "Done", "content": content(media, schema) });
    responses.insert("200".to_owned(), done);
    for status in endpoint.errors {
        let refused = json!({
            "description": reason(*status),
            "content": content("application/json", "Error"),
        });
        responses.insert(status.to_string(), refused);
    }
    Value::Object(responses)
}

fn content(media: &str, schema: &str) -> Value {
    json!({ media: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}

const fn reason(status: u16) -> &'static str {
    match status {
        400 => "The request can't be understood",
        401 => "No token, or another one",
        403 => "The token may not do this",
        404 => "No such thing",
        409 => "Something else is in the way",
        410 => "No longer there",
        422 => "Understood, and refused",
        _ => "Not now",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_described() {
        let table = endpoints();
        let description = describe(&table);
        for endpoint in &table {
            let method = endpoint.method.as_str().to_ascii_lowercase();
            let operation = &description["paths"][endpoint.path][&method];
            assert_eq!(operation["summary"], endpoint.summary);
            assert!(operation["responses"]["200"].is_object());
            for status in ["401", "403"] {
                let told = operation["responses"][status].is_object();
                let asks = matches!(endpoint.access, Access::Token(_));
                assert_eq!(told, asks, "{method} {} says {status}", endpoint.path);
            }
        }
        let described: usize = description["paths"]
            .as_object()
            .unwrap()
            .values()
            .map(|path| path.as_object().unwrap().len())
            .sum();
        assert_eq!(described, table.len());
    }

    /// Design "Admin listener", line by line.
    #[test]
    fn the_table_is_the_design() {
        let table: Vec<String> = endpoints()
            .iter()
            .map(|endpoint| {
                let query: Vec<_> = endpoint.query.to_vec();
                format!("{} {}?{}", endpoint.method, endpoint.path, query.join("&"))
            })
            .collect();
        for line in [
            "GET /healthz?",
            "GET /readyz?",
            "GET /metrics?",
            "GET /openapi.json?",
            "GET /v1/devices?user&verdict&known&after&limit",
            "GET /v1/devices/{id}?user",
            "PUT /v1/devices/{id}?",
            "DELETE /v1/devices/{id}?",
            "POST /v1/devices/{id}:{action}?",
            "DELETE /v1/devices/{id}/order?",
            "DELETE /v1/devices/{id}/binding?",
            "PUT /v1/devices/{id}/override?",
            "DELETE /v1/devices/{id}/override?",
            "PUT /v1/users/{user}/override?",
            "DELETE /v1/users/{user}/override?",
            "POST /v1/devices:import?mode&source&strict&dry_run&plan&limit&force&supplement",
            "GET /v1/devices:export?",
            "GET /v1/explain?user&device&agent&type&command&address&host&path&method&version",
            "GET /v1/sessions?",
            "GET /v1/events?from",
            "GET /v1/upstreams?",
            "GET /v1/redirects?",
            "DELETE /v1/redirects?user",
            "POST /v1/reload?",
            "GET /v1/policies?",
            "POST /v1/policies:plan?limit",
            "GET /v1/report?format",
            "GET /v1/audit?from&to&after&limit",
        ] {
            assert!(table.iter().any(|known| known == line), "{line}");
        }
        assert_eq!(table.len(), 28);
    }

    #[test]
    fn every_reference_has_its_schema() {
        let description = describe(&endpoints());
        let text = description.to_string();
        let schemas = description["components"]["schemas"].as_object().unwrap();
        let mut used = 0;
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
            used += 1;
        }
        assert!(used > schemas.len());
        for name in schemas.keys() {
            assert!(
                text.contains(&format!("schemas/{name}\"")),
                "{name} is not used"
            );
        }
    }
}
