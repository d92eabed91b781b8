import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.Pipeline;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.Transaction;

/** Connects by Jedis, pipelines, transacts and subscribes: Check PORT PROTOCOL. */
public final class Check {
  private static HostAndPort server;
  private static DefaultJedisClientConfig config;

  private static Jedis connect() {
    return new Jedis(server, config);
  }

  private static void expect(Object got, Object wanted) {
    if (!Objects.equals(got, wanted)) {
      throw new AssertionError(got + ", not " + wanted);
    }
  }

  public static void main(String[] args) throws Exception {
    server = new HostAndPort("127.0.0.1", Integer.parseInt(args[0]));
    RedisProtocol protocol = args[1].equals("3") ? RedisProtocol.RESP3 : RedisProtocol.RESP2;
    config = DefaultJedisClientConfig.builder().protocol(protocol).clientName("java").build();
    try (Jedis client = connect()) {
      client.flushAll();
      values(client);
      pipeline(client);
      transactions(client);
      messages(client);
    }
    System.out.println("fine");
  }

  private static void values(Jedis client) {
    byte[] key = "bytes".getBytes(StandardCharsets.UTF_8);
    byte[] value = {'a', '\r', '\n', 0, -1};
    client.setex(key, 3600, value);
    expect(Arrays.equals(client.get(key), value), true);
    expect(client.get("absent"), null);
    expect(client.ttl(key) > 3500, true);
  }

  private static void pipeline(Jedis client) {
    Pipeline pipe = client.pipelined();
    for (int i = 0; i < 1000; i++) {
      pipe.set("key " + i, String.valueOf(i));
    }
    var found = pipe.mget("key 0", "absent", "key 999");
    pipe.sync();
    expect(found.get(), Arrays.asList("0", null, "999"));
    expect(client.keys("key *").size(), 1000);
  }

  /** Those that lose a race try again. */
  private static void transactions(Jedis client) throws Exception {
    List<Throwable> failures = new ArrayList<>();
    List<Thread> threads = new ArrayList<>();
    for (int thread = 0; thread < 4; thread++) {
      threads.add(new Thread(() -> {
        try (Jedis own = connect()) {
          for (int i = 0; i < 50; ) {
            own.watch("sum");
            String sum = own.get("sum");
            Transaction transaction = own.multi();
            transaction.set("sum", String.valueOf(sum == null ? 1 : Integer.parseInt(sum) + 1));
            i += transaction.exec() == null ? 0 : 1;
          }
        } catch (Throwable failure) {
          synchronized (failures) {
            failures.add(failure);
          }
        }
      }));
    }
    threads.forEach(Thread::start);
    for (Thread thread : threads) {
      thread.join();
    }
    expect(failures, List.of());
    expect(client.get("sum"), "200");
  }

  private static void messages(Jedis client) throws Exception {
    CountDownLatch listening = new CountDownLatch(1);
    List<String> heard = new ArrayList<>();
    JedisPubSub listener = new JedisPubSub() {
      @Override
      public void onPSubscribe(String pattern, int subscribed) {
        listening.countDown();
      }

      @Override
      public void onPMessage(String pattern, String channel, String message) {
        heard.add(channel + message);
        if (heard.size() == 100) {
          punsubscribe();
        }
      }
    };
    Thread thread = new Thread(() -> {
      try (Jedis own = connect()) {
        own.psubscribe(listener, "news*");
      }
    });
    thread.start();
    expect(listening.await(60, TimeUnit.SECONDS), true);
    List<String> sent = new ArrayList<>();
    for (int i = 0; i < 100; i++) {
      expect(client.publish("news.1", String.valueOf(i)), 1L);
      sent.add("news.1" + i);
    }
    thread.join(60_000);
    expect(heard, sent);
  }
}
