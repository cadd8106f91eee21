%% Two hosts with a link between: network namespaces, which end with the VMs in them.
-module(linked_hosts).

-export([available/0, start/1, start_linked/1, sh/2, start_node/4]).

%% @doc Whether this system has them, for who runs this.
-spec available() -> boolean().
available() ->
    Tools = [os:find_executable(Tool) || Tool <- ["unshare", "nsenter", "ip"]],
    not lists:member(false, Tools) andalso
        element(1, testkit:run(["unshare", "--net", "ip", "link"])) =:= 0.

%% @doc With addresses of both families: 10.99.0.1 and fd99::1 of the first, `near'; .2 and
%% ::2 of the second, `far'. `Port' is that of their port mappers.
-spec start_linked(inet:port_number()) -> {Near :: testkit:vm(), Far :: testkit:vm()}.
start_linked(Port) ->
    {Near, Far} = start(Port),
    ok = sh(Near, "ip addr add 10.99.0.1/24 dev near; ip addr add fd99::1/64 dev near nodad"),
    ok = sh(Far, "ip addr add 10.99.0.2/24 dev far; ip addr add fd99::2/64 dev far nodad"),
    {Near, Far}.

%% @doc Without addresses, each with a VM in it that keeps it there.
-spec start(inet:port_number()) -> {Near :: testkit:vm(), Far :: testkit:vm()}.
start(Port) ->
    New = ["--net", "sh", "-c", "ip link set lo up; exec erl \"$@\"", "sh"],
    Options = #{
        exec => {os:find_executable("unshare"), New},
        args => ["-pa", filename:dirname(code:which(?MODULE))],
        env => testkit:epmd_port(Port)
    },
    Near = testkit:start_vm(Options),
    #{os_pid := Pid} = Far = testkit:start_vm(Options),
    ok = sh(Near, ["ip link add near type veth peer name far netns ", Pid]),
    ok = sh(Near, "ip link set near addrgenmode none up"),
    ok = sh(Far, "ip link set far addrgenmode none up"),
    {Near, Far}.

%% @doc Runs a script on a host.
-spec sh(testkit:vm(), iolist()) -> ok.
sh(Host, Command) ->
    {0, _} = testkit:run(inside(Host) ++ ["sh", "-ec", lists:flatten(Command)]),
    ok.

inside(#{os_pid := Pid}) ->
    ["nsenter", "--net=/proc/" ++ Pid ++ "/ns/net"].

%% @doc An ordinary node on a host that is there.
-spec start_node(atom(), Address :: string(), testkit:vm(), inet:port_number()) -> testkit:vm().
start_node(Name, Address, Host, Port) ->
    [Program | Arguments] = inside(Host),
    testkit:start_node(Name, Port, #{
        host => Address,
        exec => {os:find_executable(Program), Arguments ++ ["erl"]},
        modules => [portmapper, ?MODULE]
    }).
