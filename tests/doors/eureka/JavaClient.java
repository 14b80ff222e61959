// A program with Netflix's own client: it registers, discovers, and does what its standard input says.
//
// Arguments: the servers, its application, its host name (which is its instance id), and its port.
// Each line of input is answered with one line of JSON.  It asks for deltas, as the client does by
// itself, and trusts them only while their hash code is that of what it holds.

import com.netflix.appinfo.ApplicationInfoManager;
import com.netflix.appinfo.InstanceInfo;
import com.netflix.appinfo.MyDataCenterInstanceConfig;
import com.netflix.appinfo.providers.EurekaConfigBasedInstanceInfoProvider;
import com.netflix.discovery.DefaultEurekaClientConfig;
import com.netflix.discovery.DiscoveryClient;
import com.netflix.discovery.shared.Application;
import java.util.List;
import java.util.Scanner;
import java.util.StringJoiner;

public class JavaClient {
  static class Instance extends MyDataCenterInstanceConfig {
    final String app, host;
    final int port;

    Instance(String app, String host, int port) {
      this.app = app;
      this.host = host;
      this.port = port;
    }

    @Override public String getAppname() { return app; }
    @Override public String getInstanceId() { return host; }
    @Override public String getHostName(boolean refresh) { return host; }
    @Override public String getIpAddress() { return "127.0.0.1"; }
    @Override public int getNonSecurePort() { return port; }
    @Override public String getVirtualHostName() { return app; }
    @Override public int getLeaseRenewalIntervalInSeconds() { return 1; }
    @Override public int getLeaseExpirationDurationInSeconds() { return 4; }
  }

  static class Settings extends DefaultEurekaClientConfig {
    final List<String> servers;

    Settings(List<String> servers) { this.servers = servers; }

    @Override public List<String> getEurekaServerServiceUrls(String zone) { return servers; }
    @Override public int getRegistryFetchIntervalSeconds() { return 1; }
    @Override public int getInitialInstanceInfoReplicationIntervalSeconds() { return 0; }
    @Override public int getInstanceInfoReplicationIntervalSeconds() { return 1; }
    @Override public boolean shouldFilterOnlyUpInstances() { return false; }
  }

  public static void main(String[] arguments) {
    List<String> servers = List.of(arguments[0].split(",")).stream().map(url -> url + "/").toList();
    Instance instance = new Instance(arguments[1], arguments[2], Integer.parseInt(arguments[3]));
    InstanceInfo info = new EurekaConfigBasedInstanceInfoProvider(instance).get();
    ApplicationInfoManager manager = new ApplicationInfoManager(instance, info);
    DiscoveryClient client = new DiscoveryClient(manager, new Settings(servers));
    manager.setInstanceStatus(InstanceInfo.InstanceStatus.UP);

    Scanner lines = new Scanner(System.in);
    while (lines.hasNextLine()) {
      String[] words = lines.nextLine().split(" ");
      if (words[0].equals("see")) {
        System.out.println(shown(client.getApplication(words[1])));
      } else if (words[0].equals("say")) {
        manager.setInstanceStatus(InstanceInfo.InstanceStatus.valueOf(words[1]));
        System.out.println("null");
      } else {
        client.shutdown();
        System.exit(0);
      }
    }
  }

  static String shown(Application application) {
    StringJoiner pairs = new StringJoiner(",", "{", "}");
    if (application != null) {
      for (InstanceInfo one : application.getInstances()) {
        pairs.add("\"" + one.getInstanceId() + "\":\"" + one.getStatus() + "\"");
      }
    }
    return pairs.toString();
  }
}
