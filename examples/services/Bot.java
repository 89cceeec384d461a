// A bot behind [[answer]]: checks the signature (Standard Webhooks), answers a text. `java Bot.java`, Java 17 or later,
// nothing to install. (Its JSON is read with a regular expression to need no library; use yours.)
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Base64;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Bot {
    static final byte[] KEY = Base64.getDecoder().decode(System.getenv("WEBHOOK_SECRET").replaceFirst("^whsec_", ""));

    static boolean isSigned(String id, String time, String signatures, byte[] body) throws Exception {
        var mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(KEY, "HmacSHA256"));
        mac.update((id + "." + time + ".").getBytes(StandardCharsets.UTF_8));
        var expected = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes(StandardCharsets.UTF_8);
        var isFresh = Math.abs(System.currentTimeMillis() / 1000 - Long.parseLong(time)) < 300;
        var isSigned = false;
        for (var given : signatures.split(" ")) {
            isSigned |= MessageDigest.isEqual(expected, given.getBytes(StandardCharsets.UTF_8));
        }
        return isFresh && isSigned;
    }

    public static void main(String[] arguments) throws Exception {
        var port = Integer.parseInt(System.getenv().getOrDefault("PORT", "8000"));
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/", exchange -> {
            var body = exchange.getRequestBody().readAllBytes();
            var head = exchange.getRequestHeaders();
            var isAuthentic = false;
            try {
                isAuthentic = isSigned(head.getFirst("webhook-id"), head.getFirst("webhook-timestamp"),
                    head.getFirst("webhook-signature"), body);
            } catch (Exception missing) {
                // Not signed at all.
            }
            var content = Pattern.compile("\"Content\":\"((?:[^\"\\\\]|\\\\.)*)\"")
                .matcher(new String(body, StandardCharsets.UTF_8));
            var reply = isAuthentic ? "{\"text\":\"echo: " + (content.find() ? content.group(1) : "") + "\"}"
                : "{\"error\":\"wrong signature\"}";
            exchange.getResponseHeaders().set("content-type", "application/json");
            exchange.sendResponseHeaders(isAuthentic ? 200 : 401, 0);
            try (var out = exchange.getResponseBody()) {
                out.write(reply.getBytes(StandardCharsets.UTF_8));
            }
        });
        server.start();
    }
}
