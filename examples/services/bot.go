// A bot behind [[answer]]: checks the signature (Standard Webhooks), answers a text. `go run bot.go`, nothing to install.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func isSigned(key []byte, head http.Header, body []byte) bool {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(head.Get("webhook-id") + "." + head.Get("webhook-timestamp") + "." + string(body)))
	expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	sent, _ := strconv.ParseInt(head.Get("webhook-timestamp"), 10, 64)
	fresh := time.Since(time.Unix(sent, 0)).Abs() < 5*time.Minute
	signed := false
	for _, given := range strings.Fields(head.Get("webhook-signature")) {
		signed = signed || hmac.Equal(expected, []byte(given))
	}
	return fresh && signed
}

func main() {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("WEBHOOK_SECRET"), "whsec_"))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(http.MaxBytesReader(response, request.Body, 1<<21))
		if !isSigned(key, request.Header, body) {
			http.Error(response, "wrong signature", http.StatusUnauthorized)
			return
		}
		var event struct{ Data struct{ Content string } }
		_ = json.Unmarshal(body, &event)
		response.Header().Set("content-type", "application/json")
		_ = json.NewEncoder(response).Encode(map[string]string{"text": "echo: " + event.Data.Content})
	})
	port := os.Getenv("PORT")
	if port == "" {
		port = "8000"
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
