package orders;

import java.security.Principal;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.http.ResponseEntity;
import org.springframework.security.config.Customizer;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.oauth2.client.AuthorizedClientServiceOAuth2AuthorizedClientManager;
import org.springframework.security.oauth2.client.OAuth2AuthorizedClientService;
import org.springframework.security.oauth2.client.registration.ClientRegistrationRepository;
import org.springframework.security.oauth2.client.web.client.OAuth2ClientHttpRequestInterceptor;
import org.springframework.security.oauth2.core.OAuth2TokenValidator;
import org.springframework.security.oauth2.jwt.Jwt;
import org.springframework.security.oauth2.jwt.JwtTypeValidator;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.client.RestClient;

/**
 * Spring Boot's resource server and OAuth2 client, unmodified: /orders for bearers of a scope, and
 * /calling, which calls Scopegate with a token of this service's own.
 */
@SpringBootApplication
@RestController
class Orders {
    private final RestClient scopegate;

    Orders(
            ClientRegistrationRepository registrations,
            OAuth2AuthorizedClientService clients,
            @Value("${ISSUER}") String issuer) {
        var manager = new AuthorizedClientServiceOAuth2AuthorizedClientManager(registrations, clients);
        var tokens = new OAuth2ClientHttpRequestInterceptor(manager);
        tokens.setClientRegistrationIdResolver(request -> "scopegate");
        scopegate = RestClient.builder().baseUrl(issuer).requestInterceptor(tokens).build();
    }

    public static void main(String[] arguments) {
        SpringApplication.run(Orders.class, arguments);
    }

    // Spring takes "JWT" alone by default; Scopegate's access tokens are "at+jwt" (RFC 9068).
    @Bean
    static OAuth2TokenValidator<Jwt> accessTokens() {
        return new JwtTypeValidator("at+jwt");
    }

    @Bean
    static SecurityFilterChain security(HttpSecurity http) throws Exception {
        return http
                .authorizeHttpRequests(requests -> requests
                        .requestMatchers("/calling").permitAll()
                        .requestMatchers("/orders").hasAuthority("SCOPE_read:items")
                        .anyRequest().denyAll())
                .oauth2ResourceServer(server -> server.jwt(Customizer.withDefaults()))
                .build();
    }

    @GetMapping("/orders")
    String orders(Principal bearer) {
        return bearer.getName();
    }

    @GetMapping("/calling")
    ResponseEntity<String> calling() {
        return scopegate.get().uri("/items").retrieve().toEntity(String.class);
    }
}
