// go run . : golang.org/x/oauth2 and go-oidc, unmodified, against a service. What they need comes as
// JSON on standard input, what came of it goes as JSON to standard output.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

var given struct {
	Issuer, Username, Password, Secret string
	ClientID                           string `json:"client_id"`
}

func main() {
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	provider := must(oidc.NewProvider(ctx, given.Issuer))
	public := oauth2.Config{
		ClientID: "a-public-client",
		Endpoint: provider.Endpoint(),
		Scopes:   []string{"read:items"},
	}
	login := must(public.PasswordCredentialsToken(ctx, given.Username, given.Password))
	refreshed := refresh(ctx, public, login)
	service := map[string]any{}
	for name, style := range map[string]oauth2.AuthStyle{
		"header":   oauth2.AuthStyleInHeader,
		"form":     oauth2.AuthStyleInParams,
		"detected": oauth2.AuthStyleAutoDetect,
	} {
		token := must(asService(provider, given.Secret, style).Token(ctx))
		service[name] = verified(ctx, provider, given.Issuer, token)
	}
	_, wrongPassword := public.PasswordCredentialsToken(ctx, given.Username, "wrong")
	_, wrongSecret := asService(provider, "wrong", oauth2.AuthStyleInHeader).Token(ctx)
	_, wrongAudience := verifier(provider, "https://other.example").Verify(ctx, login.AccessToken)
	tampered := login.AccessToken[:len(login.AccessToken)-6] + "AAAAAA"
	_, wrongSignature := verifier(provider, given.Issuer).Verify(ctx, tampered)

	out := map[string]any{
		"login":          verified(ctx, provider, given.Issuer, login),
		"refreshed":      verified(ctx, provider, given.Issuer, refreshed),
		"rotated":        refreshed.RefreshToken != login.RefreshToken,
		"service":        service,
		"reading":        status(public.Client(ctx, refreshed).Get(given.Issuer + "/items")),
		"writing":        status(public.Client(ctx, refreshed).Post(given.Issuer+"/items", "application/json", nil)),
		"wrongPassword":  code(wrongPassword),
		"wrongSecret":    code(wrongSecret),
		"wrongAudience":  wrongAudience != nil,
		"wrongSignature": wrongSignature != nil,
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		log.Fatal(err)
	}
}

func asService(provider *oidc.Provider, secret string, style oauth2.AuthStyle) *clientcredentials.Config {
	return &clientcredentials.Config{
		ClientID:     given.ClientID,
		ClientSecret: secret,
		TokenURL:     provider.Endpoint().TokenURL,
		Scopes:       []string{"read:items"},
		AuthStyle:    style,
	}
}

// refresh lets the library believe that the token has expired, so that it refreshes by itself.
func refresh(ctx context.Context, client oauth2.Config, token *oauth2.Token) *oauth2.Token {
	expired := *token
	expired.Expiry = time.Now().Add(-time.Minute)
	return must(client.TokenSource(ctx, &expired).Token())
}

func verifier(provider *oidc.Provider, audience string) *oidc.IDTokenVerifier {
	return provider.Verifier(&oidc.Config{ClientID: audience})
}

// verified is what an access token says, once go-oidc has verified it by the published keys.
func verified(ctx context.Context, provider *oidc.Provider, audience string, token *oauth2.Token) any {
	parsed := must(verifier(provider, audience).Verify(ctx, token.AccessToken))
	var claims struct {
		Sub, Scope string
		ClientID   string `json:"client_id"`
	}
	if err := parsed.Claims(&claims); err != nil {
		log.Fatal(err)
	}
	return map[string]any{
		"sub":       claims.Sub,
		"client":    claims.ClientID,
		"scope":     claims.Scope,
		"answered":  token.Extra("scope"),
		"type":      token.Type(),
		"remaining": time.Until(token.Expiry).Seconds(),
	}
}

func code(err error) string {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		log.Fatalf("not a refusal that the library can read: %v", err)
	}
	return refused.ErrorCode
}

func status(answer *http.Response, err error) int {
	must(answer, err)
	defer answer.Body.Close()
	must(io.Copy(io.Discard, answer.Body))
	return answer.StatusCode
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
