// jinterface, told on standard input what to do: a line of answer each.

import com.ericsson.otp.erlang.OtpEpmd;
import com.ericsson.otp.erlang.OtpNode;
import com.ericsson.otp.erlang.OtpPeer;
import com.ericsson.otp.erlang.OtpSelf;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;

public class Client {
    private static OtpNode node;
    private static OtpSelf self;

    public static void main(String[] arguments) throws IOException {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = input.readLine()) != null; ) {
            String[] words = line.split(" ");
            System.out.println(answer(words[0], words.length > 1 ? words[1] : null));
        }
    }

    private static Object answer(String request, String name) throws IOException {
        switch (request) {
            case "names":
                return String.join(", ", OtpEpmd.lookupNames());
            case "port":
                return OtpEpmd.lookupPort(new OtpPeer(name));
            case "open":
                node = new OtpNode(name, "portmapper");
                return node.createPid().creation();
            case "ping":
                return node.ping(name, 5000);
            case "close":
                node.close();
                return "ok";
            case "publish":
                self = new OtpSelf(name, "portmapper");
                return self.publishPort();
            case "unpublish":
                self.unPublishPort();
                return "ok";
            default:
                return "unknown request";
        }
    }
}
