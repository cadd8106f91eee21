%% @doc What {@link portmapper_epmd} stands on, in the supervision of kernel: the process
%% that keeps this node registered, and while this VM is the port mapper of its host,
%% what serves. Its own end is that of the VM.
-module(portmapper_epmd_sup).
-behaviour(supervisor).

-export([start_link/0, serve/0, serve_no_more/0, serves/0]).
-export([init/1]).

%% More often than a process of ours could die and be restarted with reason.
-define(INTENSITY, 30).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    %% Before the application's own start there would be no environment.
    _ = application:load(portmapper),
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% @doc Starts what serves.
-spec serve() -> ok.
serve() ->
    ok = serve_no_more(),
    {ok, _Pid} = supervisor:start_child(?MODULE, #{
        id => portmapper_sup,
        start => {portmapper_sup, start_link, []},
        type => supervisor,
        modules => [portmapper_sup]
    }),
    ok.

%% @doc Ends what serves, but not the server.
-spec serve_no_more() -> ok.
serve_no_more() ->
    _ = supervisor:terminate_child(?MODULE, portmapper_sup),
    _ = supervisor:delete_child(?MODULE, portmapper_sup),
    ok.

%% @doc Whether what serves is started here, too.
-spec serves() -> boolean().
serves() ->
    whereis(?MODULE) =/= undefined andalso
        lists:keymember(portmapper_sup, 1, supervisor:which_children(?MODULE)).

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Registration = #{
        id => portmapper_registration,
        start => {portmapper_registration, start_link, []},
        %% It may have much to hand on. Kernel gives all of this two seconds.
        shutdown => 1900,
        modules => [portmapper_registration]
    },
    {ok, {#{intensity => ?INTENSITY, period => 1}, [Registration]}}.
