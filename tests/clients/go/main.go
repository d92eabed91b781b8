// Connects by go-redis, pipelines, transacts and subscribes: check PORT PROTOCOL.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func expect[T comparable](got, wanted T) {
	if got != wanted {
		panic(fmt.Sprintf("%v, not %v", got, wanted))
	}
}

func main() {
	protocol, err := strconv.Atoi(os.Args[2])
	must(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := redis.NewClient(&redis.Options{
		Addr:       "127.0.0.1:" + os.Args[1],
		Protocol:   protocol,
		ClientName: "go",
	})
	defer client.Close()
	must(client.FlushAll(ctx).Err())

	// Values of any bytes, and none.
	must(client.Set(ctx, "bytes", "a\r\n\x00\xff", time.Hour).Err())
	expect(client.Get(ctx, "bytes").Val(), "a\r\n\x00\xff")
	expect(client.Get(ctx, "absent").Err(), error(redis.Nil))
	left := client.TTL(ctx, "bytes").Val()
	expect(left > 59*time.Minute && left <= time.Hour, true)

	// A pipeline.
	commands, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range 1000 {
			pipe.Set(ctx, "key "+strconv.Itoa(i), i, 0)
		}
		pipe.MGet(ctx, "key 0", "absent", "key 999")
		return nil
	})
	must(err)
	found := commands[1000].(*redis.SliceCmd).Val()
	expect(found[0].(string)+fmt.Sprint(found[1])+found[2].(string), "0<nil>999")
	count := 0
	for keys := client.Scan(ctx, 0, "key *", 100).Iterator(); keys.Next(ctx); count++ {
	}
	expect(count, 1000)

	// Transactions: those that lose a race try again.
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 50 {
				add := func(tx *redis.Tx) error {
					n, err := tx.Get(ctx, "sum").Int()
					if err != nil && !errors.Is(err, redis.Nil) {
						return err
					}
					_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
						pipe.Set(ctx, "sum", n+1, 0)
						return nil
					})
					return err
				}
				for {
					err := client.Watch(ctx, add, "sum")
					if err == nil {
						break
					}
					if !errors.Is(err, redis.TxFailedErr) {
						panic(err)
					}
				}
			}
		}()
	}
	all.Wait()
	expect(client.Get(ctx, "sum").Val(), "200")

	// Messages.
	listener := client.PSubscribe(ctx, "news*")
	defer listener.Close()
	_, err = listener.Receive(ctx)
	must(err)
	for i := range 100 {
		expect(client.Publish(ctx, "news.1", i).Val(), 1)
	}
	for i := range 100 {
		message, err := listener.ReceiveMessage(ctx)
		must(err)
		expect(message.Channel+message.Payload, "news.1"+strconv.Itoa(i))
	}
	fmt.Println("fine")
}
