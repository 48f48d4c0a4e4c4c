//! The crates oauth2 and jsonwebtoken, unmodified, against a service. What they need comes as JSON
//! on standard input, what came of it goes as JSON to standard output.

use std::error::Error;
use std::io::stdin;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenResponse};
use oauth2::{
    AccessToken, AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest,
    HttpResponse, IntrospectionUrl, RefreshToken, RequestTokenError, ResourceOwnerPassword,
    ResourceOwnerUsername, RevocationUrl, Scope, StandardRevocableToken,
    TokenIntrospectionResponse, TokenResponse, TokenUrl,
};
use serde::Deserialize;
use serde_json::{Value, json};

type Failure = Box<dyn Error>;
type Client = BasicClient<EndpointNotSet, EndpointNotSet, EndpointSet, EndpointSet, EndpointSet>;

#[derive(Deserialize)]
struct Given {
    issuer: String,
    username: String,
    password: String,
    client_id: String,
    secret: String,
    pem: String,
}

#[derive(Deserialize)]
struct Metadata {
    token_endpoint: String,
    jwks_uri: String,
    introspection_endpoint: String,
    revocation_endpoint: String,
}

fn main() -> Result<(), Failure> {
    let given: Given = serde_json::from_reader(stdin())?;
    let found = get(&format!(
        "{}/.well-known/oauth-authorization-server",
        given.issuer
    ))?;
    let metadata: Metadata = serde_json::from_str(&found)?;
    let keys: JwkSet = serde_json::from_str(&get(&metadata.jwks_uri)?)?;
    let public = client(&metadata, "a-public-client", None)?;
    let basic = client(&metadata, &given.client_id, Some(&given.secret))?;
    let in_form = basic.clone().set_auth_type(AuthType::RequestBody);
    let wrong = client(&metadata, &given.client_id, Some("wrong"))?;

    let login = log_in(&public, &given.username, &given.password)?;
    let token = login.refresh_token().ok_or("no refresh token")?;
    let refreshed = public.exchange_refresh_token(token).request(&send)?;
    let verify =
        |token: &AccessToken, audience: &str| verified(&keys, token, &given.issuer, audience);
    let out = json!({
        "login": verify(login.access_token(), &given.issuer)?,
        "refreshed": verify(refreshed.access_token(), &given.issuer)?,
        "by_pem": verified_by_pem(&given, login.access_token())?,
        "basic": verify(act_as_service(&basic)?.access_token(), &given.issuer)?,
        "form": verify(act_as_service(&in_form)?.access_token(), &given.issuer)?,
        "scopes": login.scopes(),
        "lifetime": login.expires_in().map(|each| each.as_secs()),
        "wrong_password": refusal(log_in(&public, &given.username, "wrong"))?,
        "wrong_secret": refusal(act_as_service(&wrong))?,
        "wrong_audience": verify(login.access_token(), "https://other.example").is_err(),
        "before": introspect(&basic, login.access_token())?,
        "revoked": revoke(&public, refreshed.refresh_token().ok_or("no refresh token")?)?,
        "after": introspect(&basic, login.access_token())?,
    });
    println!("{out}");
    Ok(())
}

fn client(metadata: &Metadata, id: &str, secret: Option<&str>) -> Result<Client, Failure> {
    let client = BasicClient::new(ClientId::new(id.into()))
        .set_token_uri(TokenUrl::new(metadata.token_endpoint.clone())?)
        .set_introspection_url(IntrospectionUrl::new(
            metadata.introspection_endpoint.clone(),
        )?)
        .set_revocation_url(RevocationUrl::new(with_tls(&metadata.revocation_endpoint))?);
    Ok(match secret {
        Some(secret) => client.set_client_secret(ClientSecret::new(secret.into())),
        None => client,
    })
}

type Answer = Result<
    BasicTokenResponse,
    RequestTokenError<ureq::Error, oauth2::StandardErrorResponse<BasicErrorResponseType>>,
>;

fn log_in(client: &Client, username: &str, password: &str) -> Answer {
    client
        .exchange_password(
            &ResourceOwnerUsername::new(username.into()),
            &ResourceOwnerPassword::new(password.into()),
        )
        .add_scope(Scope::new("read:items".into()))
        .request(&send)
}

fn act_as_service(client: &Client) -> Answer {
    client
        .exchange_client_credentials()
        .add_scope(Scope::new("read:items".into()))
        .request(&send)
}

fn refusal(answer: Answer) -> Result<String, Failure> {
    match answer {
        Err(RequestTokenError::ServerResponse(error)) => Ok(error.error().to_string()),
        other => Err(format!("not a refusal that the crate can read: {other:?}").into()),
    }
}

fn introspect(client: &Client, token: &AccessToken) -> Result<Value, Failure> {
    let answer = client.introspect(token).request(&send)?;
    Ok(json!({"active": answer.active(), "username": answer.username()}))
}

/// The crate insists on TLS here. `send` then leaves it out, as a proxy would that ends it.
fn with_tls(url: &str) -> String {
    url.replacen("http:", "https:", 1)
}

fn revoke(client: &Client, token: &RefreshToken) -> Result<bool, Failure> {
    let revocable = StandardRevocableToken::RefreshToken(token.clone());
    client.revoke_token(revocable)?.request(&send)?;
    Ok(true)
}

fn validation(algorithm: Algorithm, issuer: &str, audience: &str) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation
}

fn verified(
    keys: &JwkSet,
    token: &AccessToken,
    issuer: &str,
    audience: &str,
) -> Result<Value, Failure> {
    let header = decode_header(token.secret())?;
    if header.typ.as_deref() != Some("at+jwt") {
        return Err("not an access token".into());
    }
    let kid = header.kid.ok_or("no key id")?;
    let key = DecodingKey::from_jwk(keys.find(&kid).ok_or("no such key")?)?;
    let expected = validation(Algorithm::ES256, issuer, audience);
    Ok(decode::<Value>(token.secret(), &key, &expected)?.claims)
}

/// By the key that `scopegate key list --pem` prints.
fn verified_by_pem(given: &Given, token: &AccessToken) -> Result<Value, Failure> {
    let key = DecodingKey::from_ec_pem(given.pem.as_bytes())?;
    let expected = validation(Algorithm::ES256, &given.issuer, &given.issuer);
    Ok(decode::<Value>(token.secret(), &key, &expected)?.claims)
}

fn get(url: &str) -> Result<String, Failure> {
    Ok(ureq::get(url).call()?.body_mut().read_to_string()?)
}

fn send(mut request: HttpRequest) -> Result<HttpResponse, ureq::Error> {
    *request.uri_mut() = request
        .uri()
        .to_string()
        .replacen("https:", "http:", 1)
        .parse()
        .expect("a URL");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let (parts, mut body) = agent.run(request)?.into_parts();
    Ok(HttpResponse::from_parts(parts, body.read_to_vec()?))
}
