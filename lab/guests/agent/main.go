// Command agent runs in every guest of the lab and does two things for the machine: it runs commands, and
// it opens connections to addresses that only the guest can reach.
//
// One connection serves one request. The client sends a line of JSON that holds the lab's token; then:
//   - a command talks in frames (see frame.go) until its exit frame. When the client goes away, the
//     command's whole process group is killed;
//   - a dial is answered by a line of JSON, after which bytes are passed both ways.
package main

import (
	"bufio"
	"crypto/subtle"
	"encoding/json"
	"flag"
	"log"
	"net"
	"os"
	"strings"
	"time"
)

// Time that a client has to send its request.
const requestTimeout = 10 * time.Second

type request struct {
	Token string   `json:"token"`
	Argv  []string `json:"argv"`
	Dial  string   `json:"dial"`
}

func main() {
	listen := flag.String("listen", ":7700", "address to listen on")
	tokenFile := flag.String("token-file", "", "file that holds the token")
	flag.Parse()
	token, err := os.ReadFile(*tokenFile)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(connection, strings.TrimSpace(string(token)))
	}
}

func serve(connection net.Conn, token string) {
	defer connection.Close()
	_ = connection.SetReadDeadline(time.Now().Add(requestTimeout))
	reader := bufio.NewReaderSize(connection, 64<<10)
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return
	}
	_ = connection.SetReadDeadline(time.Time{})
	var wanted request
	if json.Unmarshal(line, &wanted) != nil ||
		subtle.ConstantTimeCompare([]byte(wanted.Token), []byte(token)) != 1 {
		return
	}
	switch {
	case wanted.Dial != "":
		dial(connection, reader, wanted.Dial)
	case len(wanted.Argv) > 0:
		execute(connection, reader, wanted.Argv)
	}
}
